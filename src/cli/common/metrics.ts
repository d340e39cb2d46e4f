/** Serves the metrics of a command that was asked to by --metrics, as long as it runs. */
import type { Source, SourceOptions } from '../../metrics/index.js'
import { say } from './print.js'
import type { ReportFlags } from './run-flags.js'

export interface CommandMetrics {
  /** Adds what the command has opened, in the place of what it opened before. */
  next(source: Source, labels?: NonNullable<SourceOptions['labels']>): void
  close(): Promise<void>
}

const NONE: CommandMetrics = { next: () => undefined, close: async () => undefined }

/** @throws ERR_SPEADCAST_NATIVE where the port is taken */
export async function openMetrics(command: string, { metrics: at }: ReportFlags): Promise<CommandMetrics> {
  if (at === undefined) return NONE
  const { metrics, serveMetrics } = await import('../../metrics/index.js')
  const registry = metrics([], { process: true })
  const server = await serveMetrics(registry, at)
  say(`speadcast ${command}: metrics at ${server.url}/metrics`)
  let now: Source | undefined
  return {
    next(source, labels = {}) {
      if (now !== undefined) registry.remove(now)
      now = source
      registry.add(source, { name: command, labels })
    },
    close: () => server.close(),
  }
}
