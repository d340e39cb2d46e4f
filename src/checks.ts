/** Checks of arguments that the sending and the receiving side share, and the words in which errors say what was given. */
import { counted, type ErrorCode, printable, SpeadcastError } from './errors.js'

/** Says in an error what was given: '300', 'a string of 40 characters', 'null'. Never throws, whatever the value's accessors do. */
export function shown(value: unknown): string {
  try {
    return described(value)
  } catch {
    return `${typeof value === 'function' ? 'a function' : 'an object'} that cannot be looked at`
  }
}

function described(value: unknown): string {
  if (typeof value === 'string') return value.length <= 20 ? `'${printable(value)}'` : `a string of ${value.length} characters`
  if (typeof value === 'bigint') return `${value}n`
  if (Array.isArray(value)) return `an array of ${value.length}`
  if (typeof value === 'symbol') return 'a symbol'
  if (ArrayBuffer.isView(value)) return `${withArticle(value.constructor.name)} of ${counted(value.byteLength, 'byte')}`
  if (value !== null && typeof value === 'object') return withArticle(printable(value.constructor?.name ?? 'object'))
  return typeof value === 'function' ? 'a function' : `${value}`
}

/** Says what was thrown or given as a reason, which may be anything. */
export function messageOf(thrown: unknown): string {
  if (thrown instanceof Error) return thrown.message
  return typeof thrown === 'string' ? thrown : shown(thrown)
}

/** 'a Buffer', 'an Item'. */
export const withArticle = (name: string): string => `${/^[aeio]/i.test(name) ? 'an' : 'a'} ${name}`

/** Whether it has properties to read: neither null nor a primitive. */
export function isObject(value: unknown): value is object {
  return (typeof value === 'object' && value !== null) || typeof value === 'function'
}

/** Lists names in an error: "'a', 'b' or 'c'". */
export function oneOf(names: readonly string[]): string {
  const quoted = names.map((name) => `'${name}'`)
  return `${quoted.slice(0, -1).join(', ')} or ${quoted.at(-1)}`
}

/**
 * Refuses options that are no object, have an unknown key, or have a property that cannot be read, because an accessor or a proxy
 * throws. Allocates nothing: send calls it.
 * @param before introduces the known ones
 */
export function checkOptions(call: string, options: object, known: readonly string[], before = 'known ones'): void {
  let key = ''
  try {
    if (typeof options === 'object' && options !== null && !Array.isArray(options)) {
      for (key in options) if (!known.includes(key)) throw unknownOption(call, key, known, before)
      for (key of known) void (options as Record<string, unknown>)[key]
      return
    }
  } catch (cause) {
    throw cause instanceof SpeadcastError ? cause : unreadable(call, key, cause)
  }
  throw new SpeadcastError(
    'ERR_SPEADCAST_CONFIG',
    `${call}: the options are ${shown(options)}; give an object of ${known.join(', ')}`,
  )
}

function unknownOption(call: string, key: string, known: readonly string[], before: string): SpeadcastError {
  const message = `${call}: unknown option '${printable(key)}'; ${before}: ${known.join(', ')}`
  return new SpeadcastError('ERR_SPEADCAST_CONFIG', message)
}

function unreadable(call: string, key: string, cause: unknown, code: ErrorCode = 'ERR_SPEADCAST_CONFIG'): SpeadcastError {
  const message = `${call}: ${key === '' ? 'the options' : `'${printable(key)}'`} cannot be read, because an accessor or a proxy throws; give a plain object`
  return new SpeadcastError(code, message, { cause })
}

/**
 * Reads the named properties of an object, once, and returns them as a plain one. @throws where there is no object, or an accessor
 * or a proxy throws
 */
export function readPlain<T extends object>(call: string, object: T, names: readonly (keyof T & string)[], code?: ErrorCode): T {
  const plain: Partial<T> = {}
  for (const name of names) {
    try {
      plain[name] = object[name]
    } catch (cause) {
      throw unreadable(call, name, cause, code)
    }
    if (plain[name] === undefined) delete plain[name]
  }
  return plain as T
}

/** Refuses texts such as 'no' and 'false', which count as true. @throws ERR_SPEADCAST_CONFIG */
export function checkBoolean(call: string, name: string, value: unknown): void {
  if (value === undefined || typeof value === 'boolean') return
  throw new SpeadcastError('ERR_SPEADCAST_CONFIG', `${call}: ${name} is ${shown(value)}; it must be true or false`)
}

/** `instanceof` asks a proxy, which may throw. */
export function isInstance<T>(value: unknown, kind: { readonly prototype: T }): value is T {
  try {
    return value instanceof (kind as abstract new () => T)
  } catch {
    return false
  }
}

/** Array.isArray asks a proxy that was revoked. Returns a copy, of which every entry was read. */
export function listOf<T>(value: readonly T[] | undefined): T[] | undefined {
  try {
    return Array.isArray(value) ? Array.from(value as readonly T[]) : undefined
  } catch {
    return undefined
  }
}

/** @throws the signal's reason if it has aborted */
export function checkSignal(call: string, signal: AbortSignal | undefined): void {
  if (signal === undefined) return
  if (!isInstance(signal, AbortSignal))
    throw new SpeadcastError('ERR_SPEADCAST_CONFIG', `${call}: signal is ${shown(signal)}; it must be an AbortSignal`)
  signal.throwIfAborted()
}
