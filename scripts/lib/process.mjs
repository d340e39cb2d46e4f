// Shared by the parts of the bootstrap: places, messages, digests, children.
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { constants } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))))
/** A path inside the project. */
export const at = (...parts) => join(ROOT, ...parts)

/** Messages go to stderr, because stdout belongs to the program that runs. */
export const say = (text) => process.stderr.write(`speadcast: ${text}\n`)
export const digest = (...parts) => createHash('sha256').update(JSON.stringify(parts)).digest('hex')
/** A file's text, '' if there is none. */
export const read = (file) => (existsSync(file) ? readFileSync(file, 'utf8') : '')
export const readJson = (file) => JSON.parse(readFileSync(file, 'utf8'))

/** Files below `directory`, as sorted paths relative to it. */
export function filesIn(directory) {
  if (!existsSync(directory)) return []
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(directory.length + 1))
    .sort()
}

/** Thrown to end with an exit status and no stack trace, when the error has been reported already. */
export class Quit extends Error {
  constructor(status) {
    super(`exit ${status}`)
    this.status = status
  }
}

const interruption = new AbortController()
export const interrupted = interruption.signal
/** Throws if a signal asked us to stop. */
export const checkInterrupted = () => {
  if (interrupted.aborted) throw new Quit(128 + constants.signals[interrupted.reason])
}

let child

/** From now on a signal ends the child that runs, and then us, instead of leaving a half-made install behind. */
export function watchSignals() {
  const onTerminal = process.stdin.isTTY || process.stdout.isTTY || process.stderr.isTTY
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'])
    process.on(signal, () => {
      interruption.abort(signal)
      // Ctrl-C on a terminal reaches the child by itself, and a second SIGINT would abort what the first asked to drain.
      if (!(signal === 'SIGINT' && onTerminal)) child?.kill(signal)
    })
}

/** Runs a program to its end. Returns its exit status (128 + n after signal n) and, where it was piped, its output. */
export function run(command, args, { env = {}, stdio = 'inherit', timeoutMs } = {}) {
  checkInterrupted()
  return new Promise((resolve, reject) => {
    child = spawn(command, args, { cwd: ROOT, stdio, env: { ...process.env, ...env }, timeout: timeoutMs })
    let output = ''
    for (const stream of [child.stdout, child.stderr])
      stream?.setEncoding('utf8').on('data', (text) => {
        output += text
      })
    child.on('error', reject)
    child.on('close', (code, signal) => {
      child = undefined
      resolve({ status: code ?? 128 + constants.signals[signal], output })
    })
  })
}

/** Runs a step of the setup: its stdout goes to our stderr, and an interruption ends the whole. */
export async function step(command, args, options) {
  const result = await run(command, args, { stdio: ['ignore', 2, 2], ...options })
  checkInterrupted()
  return result
}
