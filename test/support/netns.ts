/**
 * Network namespaces for tests: real interfaces, nothing on the host's network. They are removed whatever happens.
 *
 *     const why = netnsUnavailable()
 *     need(ctx, !why, why)
 *     await using ns = await makeNetns({ veth: { mtu: 9000 } })
 *     const { stdout } = await ns.exec('a', ['node', script, ns.addresses.b.v4])
 *
 * Names carry the process id. Teardown runs at the end of the `await using` block, at process exit, and (after a SIGKILL) from the
 * next makeNetns of any process, which removes what dead processes left.
 */
import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { programArgv } from './program.js'

export interface VethOptions {
  /** Default 1500. */
  mtu?: number
  /**
   * 1 makes AF_PACKET in the peer see real segments instead of GSO super-packets (docs/ground-rules.md, "Segmentation and zero copy"). Set
   * on both ends.
   */
  gsoMaxSegs?: number
  /** Addresses with prefix lengths. Default v4 10.77.0.1/24 and .2/24, v6 fd77::1/64 and ::2/64. An empty list gives none. */
  a?: readonly string[]
  b?: readonly string[]
  /** Leave both ends down. */
  down?: boolean
}

export interface NetnsOptions {
  /** A pair: `v0` in namespace `a`, `v1` in namespace `b`; both with lo up. */
  veth?: VethOptions
  /**
   * `ifb9` in namespace `a`: takes GSO super-packets, needs no ARP, drops all at transmit and counts it (docs/ground-rules.md,
   * "Sockets and UDP").
   */
  sink?: { mtu?: number; addresses?: readonly string[] }
}

export interface ExecOptions {
  input?: string | Uint8Array
  /** Default 20 000; the process is killed and exec rejects. */
  timeoutMs?: number
  env?: Record<string, string>
  cwd?: string
  /** false: a non-zero exit does not reject. */
  check?: boolean
}

export interface ExecResult {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

/** Why namespaces cannot be made here; empty when they can. */
export function netnsUnavailable(): string {
  if (process.platform !== 'linux') return 'network namespaces need Linux'
  if (process.getuid?.() !== 0) return 'network namespaces need root'
  if (spawnSync('ip', ['-V']).error) return 'network namespaces need iproute2 (ip)'
  const name = `spc-${process.pid}-probe`
  const made = spawnSync('ip', ['netns', 'add', name], { encoding: 'utf8' })
  spawnSync('ip', ['netns', 'del', name])
  return made.status === 0 ? '' : `ip netns add failed: ${made.stderr.trim()}`
}

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const live = new Set<Netns>()
let serial = 0
let hooked = false

export class Netns {
  /** Names as `ip netns list` shows them. */
  readonly name: { readonly a: string; readonly b: string }
  /** First address of each family of the veth ends (without prefix length), or of the sink for `a`. */
  readonly addresses: { a: { v4: string; v6: string }; b: { v4: string; v6: string } }
  readonly #children = new Set<ChildProcess>()

  constructor(id: string, a: readonly string[], b: readonly string[]) {
    this.name = { a: `${id}-a`, b: `${id}-b` }
    this.addresses = { a: pick(a), b: pick(b) }
  }

  /** Runs a command to its end inside a namespace. `node` means this node. Rejects on a non-zero exit with the command's output. */
  async exec(where: 'a' | 'b', argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    const child = this.spawn(where, argv, {
      stdio: ['pipe', 'pipe', 'pipe'],
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      env: { ...process.env, ...options.env },
    })
    let stdout = ''
    let stderr = ''
    child.stdout!.setEncoding('utf8').on('data', (s: string) => {
      stdout += s
    })
    child.stderr!.setEncoding('utf8').on('data', (s: string) => {
      stderr += s
    })
    child.stdin!.on('error', () => {}) // the child may not read its input
    child.stdin!.end(options.input)
    const timeoutMs = options.timeoutMs ?? 20_000
    let timedOut = false
    const timer = setTimeout(() => {
      timedOut = true
      child.kill('SIGKILL')
    }, timeoutMs)
    try {
      const result = await new Promise<ExecResult>((resolve, reject) => {
        child.once('error', reject)
        child.once('close', (code, signal) => resolve({ code, signal, stdout, stderr }))
      })
      if (timedOut) throw new Error(`${argv.join(' ')}: no end after ${timeoutMs} ms\n${stdout}${stderr}`)
      if (options.check !== false && result.code !== 0)
        throw new Error(`${argv.join(' ')}: exit ${result.code ?? result.signal}\n${stdout}${stderr}`)
      return result
    } finally {
      clearTimeout(timer)
    }
  }

  /** Runs `test/NAME.program.ts` inside a namespace; returns what it printed last, as JSON (`./print.ts`). */
  async program<T>(where: 'a' | 'b', name: string, ...args: readonly unknown[]): Promise<T> {
    const { stdout } = await this.exec(where, programArgv(name, ...args), { cwd: ROOT })
    return JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as T
  }

  /** Starts a command inside a namespace; it is killed at teardown if it still runs. The child's pid is the command's own. */
  spawn(where: 'a' | 'b', argv: readonly string[], options: SpawnOptions = {}): ChildProcess {
    const command = argv[0] === 'node' ? [process.execPath, ...argv.slice(1)] : argv
    const child = spawn('ip', ['netns', 'exec', this.name[where], ...command], options)
    this.#children.add(child)
    child.once('close', () => this.#children.delete(child))
    return child
  }

  /** `ip -n NAME …`, synchronously; returns stdout. `ns.ip('a', 'link set v0 down')`. */
  ip(where: 'a' | 'b', command: string): string {
    return run('ip', ['-n', this.name[where], ...command.trim().split(/\s+/)])
  }

  /** `tc -n NAME …`, synchronously; returns stdout. */
  tc(where: 'a' | 'b', command: string): string {
    return run('tc', ['-n', this.name[where], ...command.trim().split(/\s+/)])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = [...this.#children].map((child) => new Promise<void>((resolve) => child.once('close', () => resolve())))
    for (const child of this.#children) child.kill('SIGKILL')
    await Promise.race([Promise.all(ended), new Promise((resolve) => setTimeout(resolve, 2000).unref())])
    this.remove()
  }

  /** Synchronous teardown, for process exit. Idempotent. */
  remove(): void {
    if (!live.delete(this)) return
    for (const child of this.#children) child.kill('SIGKILL')
    removeNamespace(this.name.a)
    removeNamespace(this.name.b)
  }
}

/**
 * Makes the namespaces. Links are up when it returns; IPv6 addresses are added `nodad`, so they can be used at once. Needs root.
 */
export async function makeNetns(options: NetnsOptions = {}): Promise<Netns> {
  if (!hooked) {
    hooked = true
    process.on('exit', () => {
      for (const ns of live) ns.remove()
    })
  }
  sweep()
  const { veth, sink } = options
  const a = veth ? (veth.a ?? ['10.77.0.1/24', 'fd77::1/64']) : (sink?.addresses ?? ['10.99.0.1/24', 'fd99::1/64'])
  const b = veth ? (veth.b ?? ['10.77.0.2/24', 'fd77::2/64']) : []
  const ns = new Netns(`spc-${process.pid}-${serial++}`, a, b)
  live.add(ns)
  try {
    run('ip', ['-batch', '-'], `netns add ${ns.name.a}\nnetns add ${ns.name.b}\n`)
    const linesA = ['link set lo up']
    const linesB = ['link set lo up']
    if (veth) {
      linesA.unshift(`link add v0 type veth peer name v1 netns ${ns.name.b}`)
      linesA.push(...configure('v0', veth, a))
      linesB.push(...configure('v1', veth, b))
    }
    if (sink) {
      linesA.push('link add ifb9 type ifb', `link set ifb9 mtu ${sink.mtu ?? 9100} up`)
      for (const address of veth ? (sink.addresses ?? ['10.99.0.1/24', 'fd99::1/64']) : a) linesA.push(add('ifb9', address))
    }
    run('ip', ['-n', ns.name.a, '-batch', '-'], `${linesA.join('\n')}\n`)
    run('ip', ['-n', ns.name.b, '-batch', '-'], `${linesB.join('\n')}\n`)
    return ns
  } catch (error) {
    ns.remove()
    throw error
  }
}

/** Resolves with the first match of `pattern` in the child's stdout, which others may read too. */
export function waitForOutput(child: ChildProcess, pattern: RegExp, timeoutMs = 10_000): Promise<RegExpMatchArray> {
  return new Promise((resolve, reject) => {
    let seen = ''
    const onData = (chunk: Buffer | string) => {
      seen += chunk.toString()
      const match = seen.match(pattern)
      if (match) finish(() => resolve(match))
    }
    const onClose = (code: number | null) => finish(() => reject(new Error(`ended with ${code} before ${pattern}; wrote: ${seen}`)))
    const timer = setTimeout(() => finish(() => reject(new Error(`no ${pattern} in ${timeoutMs} ms; wrote: ${seen}`))), timeoutMs)
    const finish = (settle: () => void) => {
      clearTimeout(timer)
      child.stdout!.off('data', onData)
      child.off('close', onClose)
      settle()
    }
    child.stdout!.on('data', onData)
    child.on('close', onClose)
  })
}

function configure(device: string, veth: VethOptions, addresses: readonly string[]): string[] {
  const gso = veth.gsoMaxSegs === undefined ? '' : ` gso_max_segs ${veth.gsoMaxSegs}`
  const lines = [`link set ${device} mtu ${veth.mtu ?? 1500}${gso}${veth.down ? '' : ' up'}`]
  for (const address of addresses) lines.push(add(device, address))
  return lines
}

function add(device: string, address: string): string {
  return `address add ${address} dev ${device}${address.includes(':') ? ' nodad' : ''}`
}

function pick(addresses: readonly string[]): { v4: string; v6: string } {
  const bare = addresses.map((address) => address.replace(/\/.*/, ''))
  return { v4: bare.find((address) => !address.includes(':')) ?? '', v6: bare.find((address) => address.includes(':')) ?? '' }
}

function run(command: string, args: readonly string[], input?: string): string {
  const result = spawnSync(command, args, { encoding: 'utf8', input, timeout: 20_000 })
  if (result.error) throw result.error
  if (result.status !== 0) throw new Error(`${command} ${args.join(' ')}: ${result.stderr.trim() || result.stdout.trim()}`)
  return result.stdout
}

function removeNamespace(name: string): void {
  const pids = spawnSync('ip', ['netns', 'pids', name], { encoding: 'utf8', timeout: 5000 })
  for (const pid of (pids.stdout ?? '').split(/\s+/).filter(Boolean)) {
    try {
      process.kill(Number(pid), 'SIGKILL')
    } catch {
      // it ended by itself
    }
  }
  spawnSync('ip', ['netns', 'del', name], { timeout: 5000 })
}

/** Removes namespaces of this helper whose process is gone. */
function sweep(): void {
  let names: string[]
  try {
    names = readdirSync('/run/netns')
  } catch {
    return // no namespace was ever made
  }
  for (const name of names) {
    const owner = name.match(/^spc-(\d+)-/)
    if (!owner) continue
    try {
      process.kill(Number(owner[1]), 0)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ESRCH') removeNamespace(name)
    }
  }
}
