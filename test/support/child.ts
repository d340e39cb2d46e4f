import { spawn } from 'node:child_process'
import { fileURLToPath, pathToFileURL } from 'node:url'

export interface Ended {
  readonly code: number | null
  /** SIGKILL when it did not end by itself in time. */
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** The path of a built file. */
export const distFile = (path: string): string => fileURLToPath(new URL(`../../dist/${path}`, import.meta.url))

/** Where `import` finds a built module from anywhere, quoted. */
export const dist = (path: string): string => JSON.stringify(pathToFileURL(distFile(path)).href)

/**
 * Runs the text of a module in a node process of its own, for `timeoutMs` at most. `before` is a command to run it under (prlimit).
 */
export async function runModule(source: string, timeoutMs = 10_000, before: readonly string[] = []): Promise<Ended> {
  const [command, ...rest] = [...before, process.execPath, '--input-type=module', '-e', source]
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
