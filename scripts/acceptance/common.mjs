// Shared by the steps of scripts/acceptance.mjs: running programs, and the words of a result.
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { at } from '../lib/process.mjs'

export const CLI = at('lib/cli.js')
export const notDone = (found, more = {}) => ({ result: 'not done', found, ...more })
export const verdict = (ok, found, more = {}) => ({ result: ok ? 'passed' : 'failed', found, ...more })
export const percent = (share) => `${(share * 100).toFixed(1)} %`
/** A capture that missed frames explains what is missing. */
export const missed = (dropped) => (dropped > 0 ? ` (tcpdump itself dropped ${dropped} frames)` : '')
export const gbps = (bytesPerSecond) => `${((bytesPerSecond * 8) / 1e9).toFixed(3)} Gb/s`

/** Runs a program to its end. `onStart` gets the child. */
export function run(command, args, { timeoutMs = 120_000, onStart } = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], timeout: timeoutMs, killSignal: 'SIGKILL' })
    const text = { stdout: '', stderr: '' }
    for (const name of ['stdout', 'stderr'])
      child[name].setEncoding('utf8').on('data', (part) => {
        text[name] += part
      })
    child.on('error', (error) => resolve({ code: null, ...text, stderr: error.message }))
    child.on('close', (code, signal) => resolve({ code, signal, ...text }))
    onStart?.(child)
  })
}

export async function speadcast(args, options) {
  const { code, stdout, stderr, signal } = await run(process.execPath, [CLI, ...args, '--json'], options)
  const line = stdout.trimEnd().split('\n').at(-1)
  if (!line.startsWith('{')) throw new Error(`speadcast ${args.join(' ')}: exit ${code ?? signal}: ${stderr.trim()}`)
  return { code, stderr: stderr.trim(), ...JSON.parse(line) }
}

export const libraryOf = ({ library }) => (library ? ['--verbs-library', library] : [])
export const portOf = ({ to }) => Number(to.split(':').at(-1))
export const sendArgs = (ctx, ...more) => [
  'send',
  ctx.options.to,
  '--interface',
  ctx.options.interface,
  '--backend',
  'ibverbs',
  ...libraryOf(ctx.options),
  ...more,
]
const probeArgs = ({ options }, what, more) => {
  const { interface: name, to, library } = options
  return [at('scripts/acceptance/probe.mjs'), what, name, to, library ?? '', ...more.map(String)]
}

export async function probe(ctx, what, ...more) {
  const { code, stdout, stderr } = await run(process.execPath, probeArgs(ctx, what, more), { timeoutMs: 120_000 })
  if (code !== 0) throw new Error(`probe ${what}: exit ${code}: ${stderr.trim()}`)
  return JSON.parse(stdout)
}

/** Starts a probe that goes on until it is killed; resolves when it has begun. */
export async function startProbe(ctx, what) {
  const child = spawn(process.execPath, probeArgs(ctx, what, []), { stdio: ['pipe', 'pipe', 'inherit'] })
  await new Promise((resolve, reject) => {
    child.stdout.once('data', resolve)
    child.once('close', () => reject(new Error(`probe ${what} ended at once`)))
  })
  return child
}

/** The text of a file of sysfs; undefined where there is none. */
export function textOf(file) {
  try {
    return readFileSync(file, 'utf8').trim()
  } catch {
    return undefined
  }
}

export const macOf = (name) => textOf(`/sys/class/net/${name}/address`)

/** 4 where the interface tags its frames. */
export const tagBytesOf = (name) => (/^DEVTYPE=vlan$/m.test(textOf(`/sys/class/net/${name}/uevent`) ?? '') ? 4 : 0)
