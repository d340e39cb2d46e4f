/** Parsers of option arguments that have parts, for commander. Their errors say what is allowed, and commander says which option it was. */
import { isIPv6 } from 'node:net'
import { InvalidArgumentError } from 'commander'
import { indexOf } from './index-words.js'
import { secondsOf } from './quantity.js'

const CPUS = 1024

/** Parses CPU numbers and ranges as taskset(1) takes them: 2,3 or 0-3,6. */
export function cpuList(text: string): number[] {
  const cpus = new Set<number>()
  for (const part of text.split(',')) {
    const [, first, last = first] = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part.trim()) ?? []
    if (first === undefined || Number(last) < Number(first) || Number(last) >= CPUS)
      throw new InvalidArgumentError(`It must be CPU numbers from 0 to ${CPUS - 1} and ranges of them, such as 2,3 or 0-3.`)
    for (let cpu = Number(first); cpu <= Number(last); cpu++) cpus.add(cpu)
  }
  return [...cpus]
}

/** Parses a time in seconds, plain or with a unit, or inf for no end. */
export function secondsOrInfinity(text: string): number {
  if (text === 'inf') return Number.POSITIVE_INFINITY
  const value = secondsOf(text)
  if (value > 0) return value
  throw new InvalidArgumentError('It must be a time above 0, such as 60, 500ms or 2min, or inf for no end.')
}

export interface OnErrorFlag {
  readonly policy: 'fail' | 'skip' | 'retry'
  readonly forSeconds?: number
}

/** Parses what becomes of refused packets: fail, skip, retry, or retry:60 with its time. */
export function onErrorPolicy(text: string): OnErrorFlag {
  const [policy = '', time] = text.split(':', 2)
  if (policy === 'retry' && time !== undefined) return { policy, forSeconds: secondsOrInfinity(time) }
  if (time === undefined && (policy === 'fail' || policy === 'skip' || policy === 'retry')) return { policy }
  throw new InvalidArgumentError('It must be fail, skip or retry, or retry:60, retry:500ms or retry:inf with its time.')
}

export interface VlanFlag {
  readonly id: number
  readonly priority?: number
}

/** Parses the tag of a VLAN: 5, or 5:3 with its priority. */
export function vlanTag(text: string): VlanFlag {
  const [, id = '', priority] = /^(\d{1,4})(?::([0-7]))?$/.exec(text) ?? []
  if (Number(id) < 1 || Number(id) > 4094)
    throw new InvalidArgumentError('It must be a VLAN id from 1 to 4094, and a priority from 0 to 7 behind a colon, such as 5:3.')
  return { id: Number(id), ...(priority !== undefined && { priority: Number(priority) }) }
}

/** The names of the library's BUG_COMPAT, which this file does not load; a test compares them. */
export const BUG_COMPAT_NAMES: Readonly<Record<string, number>> = {
  'descriptor-widths': 1,
  'shape-bit-1': 2,
  'swap-endian': 4,
  'pyspead-0-5-2': 7,
  pyspead: 7,
}

/** Parses a sum of BUG_COMPAT flags: 7, or names such as descriptor-widths,swap-endian. */
export function bugCompatFlags(text: string): number {
  if (/^[0-7]$/.test(text)) return Number(text)
  return text.split(',').reduce((sum, part) => {
    const name = part.trim().toLowerCase().replaceAll('_', '-')
    if (Object.hasOwn(BUG_COMPAT_NAMES, name)) return sum | BUG_COMPAT_NAMES[name]!
    throw new InvalidArgumentError(`It must be a number from 0 to 7, or some of ${Object.keys(BUG_COMPAT_NAMES).join(', ')}.`)
  }, 0)
}

/** Parses the index of a sender. */
export function senderIndex(text: string): number {
  const index = indexOf(text)
  if (index === undefined)
    throw new InvalidArgumentError('It must be a whole number from 0 up, or a name that ends in one, such as senders-3.')
  return index
}

/** An address to listen on; without a host all addresses of the machine. */
export interface ListenFlag {
  readonly host?: string
  readonly port: number
}

/** Parses HOST:PORT, :PORT, or [::1]:PORT for IPv6. */
export function listenAddress(text: string): ListenFlag {
  const [, bracketed, host = bracketed, digits] = /^(?:\[([^[\]]+)\]|([\w.-]+))?:(\d{1,5})$/.exec(text) ?? []
  const port = Number(digits)
  if (digits === undefined || port > 65535 || (bracketed !== undefined && !isIPv6(bracketed)))
    throw new InvalidArgumentError('It must be HOST:PORT, or :PORT for all addresses, such as 127.0.0.1:9400, :9400 or [::1]:9400.')
  return { port, ...(host !== undefined && { host }) }
}
