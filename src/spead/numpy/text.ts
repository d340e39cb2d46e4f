/** Text as Python and numpy print it: strings, tuples and structured dtypes. */

/** A field of a structured dtype: `text` is that of its dtype in another, `base` and `shape` those of a subarray. */
export interface PrintedField {
  readonly name: string
  readonly title: string | null
  readonly offset: number
  readonly text: string
  readonly base: string | undefined
  readonly shape: readonly number[]
}

/** Python's repr of a string. */
export function pythonString(text: string): string {
  if (PLAIN.test(text)) return `'${text}'`
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'"
  const escaped = text.replace(/[\\\p{C}\p{Z}]|['"]/gu, (mark) => {
    if (mark === ' ') return mark
    if (mark === quote || mark === '\\') return `\\${mark}`
    if (mark === "'" || mark === '"') return mark
    const short = SHORT[mark]
    if (short !== undefined) return short
    const code = mark.codePointAt(0)!
    return code <= 0xff ? `\\x${hex(code, 2)}` : code <= 0xffff ? `\\u${hex(code, 4)}` : `\\U${hex(code, 8)}`
  })
  return `${quote}${escaped}${quote}`
}

/** Printable ASCII but for quotes and the backslash: nearly every name. */
const PLAIN = /^[ !#-&(-[\]-~]*$/
const SHORT: Readonly<Record<string, string | undefined>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }
const hex = (code: number, digits: number): string => code.toString(16).padStart(digits, '0')

/** Python's repr of a tuple of numbers. */
export const pythonTuple = (items: readonly number[]): string => (items.length === 1 ? `(${items[0]},)` : `(${items.join(', ')})`)

/** A structured dtype whose fields follow one another. */
export function fieldList(fields: readonly PrintedField[]): string {
  const items = fields.map(({ name, title, text, base, shape }) => {
    const named = title === null ? pythonString(name) : `(${pythonString(title)}, ${pythonString(name)})`
    return base === undefined ? `(${named}, ${text})` : `(${named}, ${base}, ${pythonTuple(shape)})`
  })
  return `[${items.join(', ')}]`
}

/** Any structured dtype, with the offsets of its fields. */
export function fieldDict(fields: readonly PrintedField[], itemBytes: number, aligned: boolean): string {
  const list = (texts: readonly string[]): string => `[${texts.join(', ')}]`
  const titles = fields.some(({ title }) => title !== null)
    ? `, 'titles': ${list(fields.map(({ title }) => (title === null ? 'None' : pythonString(title))))}`
    : ''
  return [
    `{'names': ${list(fields.map(({ name }) => pythonString(name)))}`,
    `, 'formats': ${list(fields.map(({ text }) => text))}`,
    `, 'offsets': ${list(fields.map(({ offset }) => `${offset}`))}`,
    titles,
    `, 'itemsize': ${itemBytes}`,
    aligned ? ", 'aligned': True}" : '}',
  ].join('')
}
