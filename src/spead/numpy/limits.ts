/**
 * Limits of a dtype's text. It may come from the network or from a command line, so each limit is checked before anything is allocated
 * for what it bounds. Real dtypes are far below them.
 */
/** Characters of a numpy header, and of a dtype's text. numpy itself refuses headers above 10,000. */
export const MAX_HEADER_BYTES = 16384
/** Dimensions of a shape; numpy allows 64. */
export const MAX_DIMENSIONS = 64
/** Fields of a SPEAD format, and of a structured dtype with all that is nested in it. */
export const MAX_FIELDS = 1024
/** Nested brackets of a numpy header. */
export const MAX_DEPTH = 32
/** Numbers, strings, brackets and names in a numpy header. */
export const MAX_LITERALS = 4096
/** Bytes of an element of a dtype: numpy counts them in a C int. */
export const MAX_ITEM_BYTES = 2 ** 31 - 1
const SHOWN_CHARACTERS = 40

/** The reason to refuse a dtype or a descriptor. Thrown by their readers alone, and caught at their edge. */
export class Refusal extends Error {}

export function refuseUnless(condition: unknown, reason: () => string): asserts condition {
  if (!condition) throw new Refusal(reason())
}

/** Quotes text from outside for a reason: at most 40 characters, and nothing that a terminal would obey. */
export function quoted(text: string): string {
  const escaped = JSON.stringify(text.slice(0, SHOWN_CHARACTERS)).replace(/[\p{C}\p{Z}]/gu, (mark) =>
    mark === ' ' ? ' ' : `\\u${mark.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
  return text.length > SHOWN_CHARACTERS ? `${escaped}… (${text.length} characters)` : escaped
}
