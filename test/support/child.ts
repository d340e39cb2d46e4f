import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

export interface Ended {
  readonly code: number | null
  /** SIGKILL when it did not end by itself in time. */
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** The path of a built file. */
export const distFile = (path: string): string => fileURLToPath(new URL(`../../dist/${path}`, import.meta.url))

/** Runs a command to its end, for `timeoutMs` at most. */
export async function runToEnd(argv: readonly string[], timeoutMs = 10_000): Promise<Ended> {
  const [command, ...rest] = argv
  const child = spawn(command!, rest, {
    stdio: ['ignore', 'pipe', 'pipe'],
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
  })
  const text = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const)
    child[name].setEncoding('utf8').on('data', (part: string) => {
      text[name] += part
    })
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => resolve([code, signal]))
  })
  return { code, signal, ...text }
}
