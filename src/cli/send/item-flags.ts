/** Reads what `--item`, `--format` and `--timestamp-format` say of items. The library is not loaded for it: it checks names, ids and dtypes. */
import { InvalidArgumentError } from 'commander'
import type { FormatField } from '../../index.js'

type ItemType = { readonly dtype: string } | { readonly format: readonly FormatField[] }

export interface ItemFlag {
  readonly name: string
  readonly id: number
  readonly description?: string
  readonly type: ItemType
  /** 'rest': as many elements as --heap-size has room for. */
  readonly shape: readonly number[] | 'rest'
  /** The item's number in every heap. */
  readonly value?: number | bigint
}

const FORM = 'NAME:ID:TYPE[:SHAPE][=VALUE], such as adc_samples:0x3300:<i2:4096 or feng_id:0x4101:u48=3'
const NUMBER = /^(.*?)=(0x[\da-f]+|[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)$/is
/** Texts of a type that numpy has, but for structured ones. */
const SCALAR = /^[<>=|]?(?:[?bBhHiIlLqQpPnNefdgFDGcO]|b1|[iu][1248]|f(?:2|4|8|16)|c(?:8|16|32)|[SUVa]\d+|[mM]8(?:\[\w+\])?)$/
const WHOLE = /^(\d+|0x[\da-f]+)$/i
const FIELD = /^([uibcf])(\d{1,4})$/
const TUPLES = /^\[\s*\(\s*["'][uibcf]["']\s*,\s*\d+\s*\)/

export function itemId(text: string): number {
  if (WHOLE.test(text)) return Number(text)
  throw new InvalidArgumentError('It must be a whole number, such as 5632 or 0x1600.')
}

/** Parses one more item. */
export function itemList(text: string, others: readonly ItemFlag[] = []): ItemFlag[] {
  const bad = (problem: string): InvalidArgumentError => new InvalidArgumentError(`${problem}; write ${FORM}.`)
  const [, rest = text, number] = NUMBER.exec(text) ?? []
  const [name = '', id = '', type = '', shape, ...more] = outsideBrackets(rest, ':')
  if (name === '' || type === '' || more.length > 0) throw bad(`'${text}' is no item`)
  if (!WHOLE.test(id)) throw bad(`its ID is '${id}', which is no whole number`)
  // A type may begin with '=', which is the host's byte order.
  const [value, before = ''] = outsideBrackets(shape ?? type, '=').toReversed()
  if (!/(^|,)\s*$/.test(before)) throw bad(`its VALUE is '${value}', which is no decimal or hexadecimal number`)
  const what = typeOf(type)
  const one = number !== undefined || 'format' in what
  return [
    ...others,
    {
      name,
      id: Number(id),
      type: what,
      shape: shape === undefined ? (one ? [] : 'rest') : shapeOf(shape),
      ...(number !== undefined && { value: numberOf(number) }),
    },
  ]
}

/** Whole numbers beyond 2^53, where doubles have gaps, as bigints. */
function numberOf(text: string): number | bigint {
  const value = Number(text)
  return Number.isSafeInteger(value) || !/^[-+]?\d+$|^0x/i.test(text) ? value : BigInt(text)
}

/** Parses the fields of a SPEAD format: u48, or u1,i7, or [("u", 1), ("i", 7)]. */
export function formatFields(text: string): FormatField[] {
  const list = TUPLES.test(text)
    ? [...text.matchAll(/\(\s*["']([uibcf])["']\s*,\s*(\d{1,4})\s*\)/g)].map(([, code, bits]) => `${code}${bits}`)
    : text.split(',')
  return list.map((field) => {
    const [, code, bits] = FIELD.exec(field.trim()) ?? []
    if (code === undefined)
      throw new InvalidArgumentError(
        `'${text}' is no format; write its fields as letter and bits, such as u48 or u1,i7. Letters: u, i, b, c (8 bits), f (32 or 64).`,
      )
    return [code, Number(bits)] as unknown as FormatField
  })
}

/** A dtype where numpy has one of that name, else a format: i2 has two bytes, and i10 ten bits. */
function typeOf(text: string): ItemType {
  const fields = text.split(',').map((field) => field.trim())
  const bits = TUPLES.test(text) || (fields.every((field) => FIELD.test(field)) && !fields.every((field) => SCALAR.test(field)))
  return bits ? { format: formatFields(text) } : { dtype: text }
}

function shapeOf(text: string): number[] {
  const inside = /^\(\s*(.*?)\s*,?\s*\)$|^\[\s*(.*?)\s*\]$/.exec(text)
  const list = inside ? (inside[1] ?? inside[2] ?? '') : text
  if (list === '') return []
  return list.split(/[x,]/).map((part) => {
    const dimension = Number(part.trim())
    if (/^\d+$/.test(part.trim()) && Number.isSafeInteger(dimension)) return dimension
    throw new InvalidArgumentError(`SHAPE is '${text}'; write its dimensions as 4096 or 2x1024.`)
  })
}

/** Splits a text where no bracket and no quote is open, because a structured dtype may have the separator in it. */
function outsideBrackets(text: string, separator: string): string[] {
  const parts = ['']
  let depth = 0
  let quote = ''
  for (const letter of text) {
    if (quote !== '') quote = letter === quote ? '' : quote
    else if (letter === '"' || letter === "'") quote = letter
    else if ('([{'.includes(letter)) depth++
    else if (')]}'.includes(letter)) depth--
    if (letter === separator && depth === 0 && quote === '') parts.push('')
    else parts[parts.length - 1] += letter
  }
  return parts
}
