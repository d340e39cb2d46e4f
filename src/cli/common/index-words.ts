/** One command line for all of several senders: words that have the sender's index in them. */
import { printable } from '../../errors.js'
import { usageError } from './exit.js'

/** The index of a sender from a number, or from a name that ends in one, as the pods of a StatefulSet have it; undefined where it is neither. */
export function indexOf(text: string): number | undefined {
  const [, digits] = /^(?:[^-].*-)?(\d{1,9})$/.exec(text) ?? []
  return digits === undefined ? undefined : Number(digits)
}

/** A word such as {index}, {index+2}, {index*8+100} or {index%2*4}. */
const WORD = /\{index(?:%(\d{1,9}))?(?:\*(\d{1,9}))?(?:\+(\d{1,9}))?\}/g
const LIKE_ONE = /\{index[^}]*\}?/

/** The value of `--index`, before anything is parsed. */
function given(args: readonly string[]): string | undefined {
  const at = args.findLastIndex((arg) => arg === '--index' || arg.startsWith('--index='))
  if (at < 0) return undefined
  return args[at] === '--index' ? args[at + 1] : args[at]!.slice('--index='.length)
}

/**
 * The arguments with the index of this sender in place of those words.
 * @throws ERR_SPEADCAST_CONFIG where a word is not understood, or there is no index
 */
export function withIndex(args: readonly string[], environment: Readonly<Record<string, string | undefined>>): string[] {
  const text = given(args) ?? environment.SPEADCAST_INDEX ?? ''
  const index = indexOf(text)
  return args.map((arg) => {
    if (!LIKE_ONE.test(arg)) return arg
    if (index === undefined)
      throw usageError(
        `'${printable(arg)}' has the sender's index in it; give --index I and --of N, or set SPEADCAST_INDEX and SPEADCAST_SENDERS`,
      )
    const filled = arg.replace(WORD, (_, modulo?: string, times = '1', plus = '0') => {
      const within = modulo === undefined ? index : index % Number(modulo)
      return `${within * Number(times) + Number(plus)}`
    })
    if (LIKE_ONE.test(filled) || filled.includes('NaN'))
      throw usageError(`'${printable(arg)}': write {index}, {index+2}, {index*8+100} or {index%2*8+100}, in this order`)
    return filled
  })
}
