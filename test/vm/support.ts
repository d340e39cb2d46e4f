/** Shared by the guest's tests: commands, the command line, the kernel's own account of RDMA resources. */
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import { VerbsContext } from '#dist/ffi/verbs/context.js'
import { VerbsLibrary } from '#dist/ffi/verbs/library.js'
import { ItemGroup, type Stream, type StreamStats } from '#dist/src/index.js'

/** Where the processor is emulated and the host busy, a command of two seconds has taken more than thirty. */
const COMMAND_TIMEOUT_MS = 120_000
const CLI = 'lib/cli.js'

/** A command's stdout, by sh. @throws with the command's output if it fails */
export function sh(script: string): string {
  const { status, signal, stdout, stderr } = spawnSync('sh', ['-c', script], { encoding: 'utf8', timeout: COMMAND_TIMEOUT_MS })
  if (status === 0) return stdout
  throw new Error(`${script}: ${status ?? signal}\n${stdout}${stderr}`)
}

export interface Ended {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** A program to its end, whatever its exit status; it is killed after a while. */
export async function ended(argv: readonly string[], env: Record<string, string> = {}): Promise<Ended> {
  const [file, ...args] = argv
  const options = { timeout: COMMAND_TIMEOUT_MS, killSignal: 'SIGKILL', env: { ...process.env, ...env } } as const
  return promisify(execFile)(file!, args, options).then(
    ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    ({ code, signal, stdout, stderr }) => ({ code: code ?? signal, stdout, stderr }),
  )
}

export const speadcast = (...args: string[]): Promise<Ended> => ended([process.execPath, CLI, ...args])

/** The command that runs `NAME.program.ts` of this folder. */
export const program = (name: string, ...args: string[]): string[] => [process.execPath, `test/vm/${name}.program.js`, ...args]

/** Starts a program; `text()` is its output so far. */
export function started(argv: readonly string[]): { child: ChildProcess; text: () => string; end: Promise<number | null> } {
  const child = spawn(argv[0]!, argv.slice(1), { stdio: ['ignore', 'pipe', 'pipe'] })
  let text = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (piece: string) => {
      text += piece
    })
  const end = new Promise<number | null>((resolve) => child.once('close', (code) => resolve(code)))
  return { child, text: () => text, end }
}

/** Asks until `isSo` accepts the answer. @throws with the last answer */
export async function until<T>(ask: () => T, isSo: (answer: T) => unknown, timeoutMs = 60_000): Promise<T> {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    const answer = ask()
    if (isSo(answer)) return answer
    if (performance.now() > deadline) throw new Error(`not so after ${timeoutMs} ms: ${JSON.stringify(answer)}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

export const ifindexOf = (name: string): number => Number(readFileSync(`/sys/class/net/${name}/ifindex`, 'utf8'))

/** The kernel's objects of a kind that user space made on a device (the kernel's own have no pid). */
export function resources(kind: 'qp' | 'cq' | 'mr' | 'pd' | 'ctx', device: string): Record<string, number | string>[] {
  const all = JSON.parse(sh(`rdma -j -dd res show ${kind}`) || '[]') as Record<string, number | string>[]
  return all.filter(({ ifname, pid }) => ifname === device && pid !== undefined)
}

export async function withContext<T>(device: string, use: (context: VerbsContext) => T | Promise<T>): Promise<T> {
  const context = VerbsContext.open(VerbsLibrary.load(), device)
  try {
    return await use(context)
  } finally {
    context.close()
  }
}

/**
 * Heaps of the tutorial's pattern, which a receiver can verify: every sample is the heap's index, the timestamp its first sample.
 */
export async function sendTutorial(stream: Stream, heaps: number, heapBytes: number): Promise<StreamStats> {
  const items = new ItemGroup()
    .add({ id: 0x1600, name: 'timestamp', description: 'Index of the first sample', format: [['u', 48]] })
    .add({ id: 0x3300, name: 'adc_samples', description: 'ADC converter output', dtype: 'i1', shape: [heapBytes] })
  const batch = stream.createBatch({ items, heaps })
  for (let i = 0; i < heaps; i++) batch.heap(i).adc_samples!.fill(i)
  batch.immediate('timestamp').setRamp(0, heapBytes)
  await stream.send(batch)
  return stream.stats()
}
