/** Containers for tests, from the images that scripts/docker.mjs built. They are removed when the test ends. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { TestContext } from 'vitest'
import { need } from '../support/need.js'

export const ROOT = fileURLToPath(new URL('../..', import.meta.url))
export const IMAGE = 'speadcast'
export const SPEAD2_IMAGE = 'speadcast-spead2'
/** With this machine's own tools (ip). */
export const HOST_IMAGE = 'speadcast-host-base'

const environment = JSON.parse(process.env.SPEADCAST_DOCKER_ENVIRONMENT ?? '{}') as Record<string, string>
const env = { ...process.env, ...environment }
const LONGEST_MS = 60_000

export function needDocker(ctx: TestContext): void {
  const why = process.env.SPEADCAST_DOCKER_UNAVAILABLE ?? ''
  need(ctx, !why, why)
}

export function needSpead2(ctx: TestContext): void {
  const why = process.env.SPEADCAST_DOCKER_SPEAD2 ?? ''
  need(ctx, !why, why)
}

export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs a command with the engine in its environment to its end; a minute at most. */
export function command(
  argv: readonly string[],
  options: { input?: Uint8Array; env?: Record<string, string> } = {},
): Promise<Ended> {
  return collect(
    spawn(argv[0]!, argv.slice(1), { cwd: ROOT, env: { ...env, ...options.env }, timeout: LONGEST_MS, killSignal: 'SIGKILL' }),
    options.input,
  )
}

function collect(child: ChildProcess, input?: Uint8Array): Promise<Ended> {
  const text = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const)
    child[name]!.setEncoding('utf8').on('data', (part: string) => {
      text[name] += part
    })
  child.stdin!.on('error', () => undefined)
  child.stdin!.end(input)
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, ...text }))
  })
}

export const docker = (...args: string[]): Promise<Ended> => command(['docker', ...args])

/** The same, but a failure is thrown. */
export async function ok(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await docker(...args)
  if (code !== 0) throw new Error(`docker ${args.join(' ')}: ${code}\n${stdout}${stderr}`)
  return stdout.trim()
}

let serial = 0
const newName = () => `spc-${process.pid}-${serial++}`

/** A bridge network with IPv4 and IPv6; x is 3 to 250. */
export class Network {
  private constructor(
    readonly name: string,
    readonly x: number,
  ) {}

  static async make({ x, mtu }: { x: number; mtu: number }): Promise<Network> {
    const name = newName()
    const subnets = ['--subnet', `10.79.${x}.0/24`, '--ipv6', '--subnet', `fd79:${x}::/64`]
    await ok('network', 'create', ...subnets, '-o', `com.docker.network.driver.mtu=${mtu}`, name)
    return new Network(name, x)
  }

  v4(host: number): string {
    return `10.79.${this.x}.${host}`
  }

  v6(host: number): string {
    return `fd79:${this.x}::${host}`
  }

  /** Options of `docker run`. */
  at(host: number): string[] {
    return ['--network', this.name, '--ip', this.v4(host), '--ip6', this.v6(host)]
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await docker('network', 'rm', this.name)
  }
}

/** A receiver that takes a socket buffer of 64 MiB. */
export const RECEIVER = ['--user', '0:0', '--cap-drop', 'ALL', '--cap-add', 'NET_ADMIN']

export class Container {
  private constructor(readonly name: string) {}

  /** `docker run -d`. */
  static async start(options: readonly string[], image: string, ...args: string[]): Promise<Container> {
    const name = newName()
    await ok('run', '-d', '--name', name, '--no-healthcheck', ...options, image, ...args)
    return new Container(name)
  }

  /** Starts it and waits until it says that it listens. */
  static async listening(options: readonly string[], image: string, ...args: string[]): Promise<Container> {
    const container = await Container.start(options, image, ...args)
    await container.said(/listening on/)
    return container
  }

  /** Resolves when its output matches; rejects after ten seconds, or if it ends before. */
  async said(pattern: RegExp, milliseconds = 10_000): Promise<void> {
    for (const deadline = Date.now() + milliseconds; ; ) {
      const { stdout, stderr } = await docker('logs', this.name)
      if (pattern.test(stdout) || pattern.test(stderr)) return
      const running = (await ok('inspect', '-f', '{{.State.Running}}', this.name)) === 'true'
      if (!running || Date.now() > deadline) throw new Error(`${this.name} never said ${pattern}: ${stdout}${stderr}`)
      await sleep(100)
    }
  }

  /** Waits for its end; returns its output. */
  async ended(): Promise<Ended> {
    const code = Number(await ok('wait', this.name))
    const { stdout, stderr } = await docker('logs', this.name)
    return { code, stdout, stderr }
  }

  /** Its process id on the engine's host, or 0 if it does not run. */
  async pid(): Promise<number> {
    return Number(await ok('inspect', '-f', '{{.State.Pid}}', this.name))
  }

  /** `ip …` in its network namespace, from a container beside it. */
  ip(...args: string[]): Promise<string> {
    return ok('run', '--rm', '--network', `container:${this.name}`, '--cap-add', 'NET_ADMIN', HOST_IMAGE, 'ip', ...args)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await docker('rm', '-f', '-v', this.name)
  }
}

/** The last line of its output, which `--json` printed. */
// biome-ignore lint/suspicious/noExplicitAny: compared field by field.
export function json({ stdout, stderr, code }: Ended): any {
  const line = stdout.trimEnd().split('\n').at(-1)
  if (!line?.startsWith('{')) throw new Error(`no JSON (exit ${code}): ${stdout}${stderr}`)
  return JSON.parse(line)
}

export const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** Containers and networks of this process, of which no test may leave any. */
process.once('exit', () => {
  if (serial === 0) return
  const list = (what: string) =>
    (
      spawnSync('docker', [what, 'ls', ...(what === 'container' ? ['-a'] : []), '-q', '--filter', `name=^spc-${process.pid}-`], {
        env,
        encoding: 'utf8',
      }).stdout ?? ''
    )
      .split(/\s+/)
      .filter(Boolean)
  const containers = list('container')
  if (containers.length > 0) spawnSync('docker', ['rm', '-f', '-v', ...containers], { env })
  const networks = list('network')
  if (networks.length > 0) spawnSync('docker', ['network', 'rm', ...networks], { env })
})
