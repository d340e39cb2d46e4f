/**
 * Limits of a received descriptor. Anybody may send one, and a receiver keeps it, so each limit is checked before anything is
 * allocated for what it bounds. Real descriptors are far below them.
 */
/** Item pointers of a descriptor's packet. It needs ten. */
export const MAX_POINTERS = 256
export const MAX_NAME_BYTES = 1024
export const MAX_DESCRIPTION_BYTES = 16384
/** Bytes of a numpy header. numpy itself refuses above 10,000. */
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

/** The reason to refuse a descriptor. Thrown within src/receive/descriptors alone, and caught at its edge. */
export class Refusal extends Error {}

export function refuseUnless(condition: unknown, reason: () => string): asserts condition {
  if (!condition) throw new Refusal(reason())
}

/** Quotes text from the wire for a reason: at most 40 characters, and nothing that a terminal would obey. */
export function quoted(text: string): string {
  const escaped = JSON.stringify(text.slice(0, SHOWN_CHARACTERS)).replace(/[\p{C}\p{Z}]/gu, (mark) =>
    mark === ' ' ? ' ' : `\\u${mark.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
  return text.length > SHOWN_CHARACTERS ? `${escaped}… (${text.length} characters)` : escaped
}
