/** Texts from outside, made safe to print: names of interfaces and items, host names, file names, what another program sent. */

/**
 * Characters that a terminal or a reader of logs may take for more than letters: control characters (C0, DEL, C1), which move the
 * cursor or end a line, line and paragraph separators, lone surrogates, and marks that turn the direction of what follows.
 */
const UNPRINTABLE = /[\p{Cc}\p{Zl}\p{Zp}\p{Cs}\p{Bidi_Control}]/gu

const hex = (character: string, digits: number): string => character.charCodeAt(0).toString(16).padStart(digits, '0')

/** Shows each such character as \x1b or \u2028. One line stays one line. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, (character) => (character < '\u0100' ? `\\x${hex(character, 2)}` : `\\u${hex(character, 4)}`))
}

/** Says how many: '1 heap', '2 heaps'. @param plural where it is not the noun with an s */
export function counted(count: number, noun: string, plural = `${noun}s`): string {
  return `${count} ${count === 1 ? noun : plural}`
}

/** JSON of a value in which such characters are escaped too: JSON.stringify leaves those from U+007F up as they are. */
export function jsonText(value: unknown): string {
  return JSON.stringify(value).replace(UNPRINTABLE, (character) => `\\u${hex(character, 4)}`)
}
