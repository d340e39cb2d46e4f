/** Bytes written as hex digits; white space and '|' are for the reader, '(n)' after a byte repeats it n times in all. */
export function bytes(...lines: string[]): Uint8Array {
  const text = lines.join(' ').replace(/([0-9a-f]{2})\((\d+)\)/g, (_, byte: string, times: string) => byte.repeat(Number(times)))
  const digits = text.replace(/[\s|]/g, '')
  if (!/^([0-9a-f]{2})*$/.test(digits)) throw new Error(`not hex: ${text}`)
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16))
}

export const ascii = (text: string): string =>
  [...text].map((character) => character.charCodeAt(0).toString(16).padStart(2, '0')).join('')
