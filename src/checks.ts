/** Checks of arguments that the sending and the receiving side share, and the words in which errors say what was given. */
import { printable, SpeadcastError } from './errors.js'

/** Says in an error what was given: '300', 'a string of 40 characters', 'null'. */
export function shown(value: unknown): string {
  if (typeof value === 'string') return value.length <= 20 ? `'${printable(value)}'` : `a string of ${value.length} characters`
  if (typeof value === 'bigint') return `${value}n`
  if (Array.isArray(value)) return `an array of ${value.length}`
  if (typeof value === 'symbol') return 'a symbol'
  if (ArrayBuffer.isView(value)) return `a ${value.constructor.name} of ${value.byteLength} bytes`
  if (value !== null && typeof value === 'object') return `a ${value.constructor?.name ?? 'object'}`
  return typeof value === 'function' ? 'a function' : `${value}`
}

/** Whether it has properties to read: neither null nor a primitive. */
export function isObject(value: unknown): value is object {
  return (typeof value === 'object' && value !== null) || typeof value === 'function'
}

/** Lists names in an error: "'a', 'b' or 'c'". */
export function oneOf(names: readonly string[]): string {
  const quoted = names.map((name) => `'${name}'`)
  return `${quoted.slice(0, -1).join(', ')} or ${quoted.at(-1)}`
}

/** Refuses options that are no object, or have an unknown key. Allocates nothing: send calls it. @param before introduces the known ones */
export function checkOptions(call: string, options: object, known: readonly string[], before = 'known ones'): void {
  if (typeof options !== 'object' || options === null || Array.isArray(options))
    throw new SpeadcastError(
      'ERR_SPEADCAST_CONFIG',
      `${call}: the options are ${shown(options)}; give an object of ${known.join(', ')}`,
    )
  for (const key in options)
    if (!known.includes(key))
      throw new SpeadcastError('ERR_SPEADCAST_CONFIG', `${call}: unknown option '${key}'; ${before}: ${known.join(', ')}`)
}

/** @throws the signal's reason if it has aborted */
export function checkSignal(call: string, signal: AbortSignal | undefined): void {
  if (signal === undefined) return
  if (typeof signal?.throwIfAborted !== 'function')
    throw new SpeadcastError('ERR_SPEADCAST_CONFIG', `${call}: signal is ${shown(signal)}; it must be an AbortSignal`)
  signal.throwIfAborted()
}
