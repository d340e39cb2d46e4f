/** Structured dtypes: read from the text of their fields, and written as numpy's header has them (numpy.lib.format.dtype_to_descr). */
import { shown } from '../checks.js'
import { SpeadcastError } from '../errors.js'
import { type Dtype, type DtypeField, parseScalar } from './dtype.js'
import type { DtypeText } from './dtype-text.js'
import { type NumpyDtype, readNumpyDtype } from './numpy/dtype.js'
import { MAX_HEADER_BYTES, quoted, Refusal, refuseUnless } from './numpy/limits.js'
import { parsePythonLiteral } from './numpy/literal.js'
import { pythonString, pythonTuple } from './numpy/text.js'

/** Brackets, or what makes numpy read a text as several types or as an array. */
const NO_SCALAR = /^\s*[[({]|,|^[<>=|]?\d/
/** Such a text is a Python literal, and not a comma string as '(2,)i4'. */
const LITERAL = /^\s*(?:[[{]|\(\s*['"[({])/

/**
 * Reads a dtype: a scalar (`parseScalar`), or the fields of a structured one as Python prints them: "[('re', '<i2'), ('im', '<i2')]", with
 * fields of fields, arrays ('x', '<f4', (3,)), padding ('', '|V2'), and the dict of names, formats and offsets. 'i2,f4' has fields f0 and f1.
 * @throws ERR_SPEADCAST_ITEM
 */
export function parseDtype(text: string): Dtype {
  if (typeof text !== 'string' || !NO_SCALAR.test(text)) return parseScalar(text)
  try {
    return structuredOf(readFields(text, false))
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    throw new SpeadcastError(
      'ERR_SPEADCAST_ITEM',
      `dtype ${quoted(text)} cannot be sent: ${error.message}; write its fields as numpy does, such as [('re', '<i2'), ('im', '<i2')]`,
    )
  }
}

function readFields(text: string, swap: boolean): NumpyDtype {
  refuseUnless(text.length <= MAX_HEADER_BYTES, () => `it has ${text.length} characters; at most ${MAX_HEADER_BYTES}`)
  const dtype = readNumpyDtype(LITERAL.test(text) ? parsePythonLiteral(text, 'the text') : text, swap)
  refuseUnless(dtype.structured, () => "it is no list of fields, and an array's dimensions go into the item's shape")
  refuseUnless(dtype.itemBytes > 0 && dtype.fields.length > 0, () => 'it has no field with a name')
  return dtype
}

/** How numpy's header has the type of an item. @param swap whether to name the opposite byte order */
export function headerDescr({ descr, fields }: Dtype, swap: boolean): string {
  if (fields) return swap ? descrOf(readFields(descr, true)) : descr
  return `'${swap ? descr.replace(/^[<>]/, (sign) => (sign === '<' ? '>' : '<')) : descr}'`
}

/** @throws Refusal for fields that no list can name */
function descrOf({ text, base, shape, structured, fields, itemBytes }: NumpyDtype): string {
  if (base) return `(${descrOf(base)}, ${pythonTuple(shape)})`
  if (!structured) return `'${text}'`
  const items: string[] = []
  let end = 0
  const pad = (to: number): void => {
    if (to > end) items.push(`('', '|V${to - end}')`)
  }
  for (const { name, title, dtype, offset } of fields) {
    refuseUnless(
      offset >= end,
      () => `field ${shown(name)} begins before the one in front of it ends, and a header has no word for that`,
    )
    pad(offset)
    const named = title === null ? pythonString(nameOf(name)) : `(${pythonString(nameOf(title))}, ${pythonString(nameOf(name))})`
    items.push(dtype.base ? `(${named}, ${descrOf(dtype.base)}, ${pythonTuple(dtype.shape)})` : `(${named}, ${descrOf(dtype)})`)
    end = offset + dtype.itemBytes
  }
  pad(itemBytes)
  return `[${items.join(', ')}]`
}

/** SPEAD descriptors are ASCII, and a field without a name is padding. */
function nameOf(name: string): string {
  refuseUnless(name !== '', () => 'a field has no name')
  for (const character of name)
    refuseUnless(character.charCodeAt(0) < 0x80, () => `field ${shown(name)} is not ASCII, as SPEAD descriptors are`)
  return name
}

function structuredOf(numpy: NumpyDtype): Dtype {
  return Object.freeze({
    kind: 'V',
    itemSizeBytes: numpy.itemBytes,
    bigEndian: false,
    descr: descrOf(numpy) as DtypeText,
    fields: Object.freeze(numpy.fields.map(({ name, dtype, offset }) => fieldOf(name, offset, dtype))),
  })
}

/** An array of arrays becomes one array. */
function fieldOf(name: string, offsetBytes: number, type: NumpyDtype): DtypeField {
  const shape: number[] = []
  let element = type
  while (element.base) {
    shape.push(...element.shape)
    element = element.base
  }
  // A scalar's text names its own byte order, and 'S0' has no bytes, which numpy allows a field.
  refuseUnless(element.itemBytes > 0, () => `field ${shown(name)} has no bytes`)
  return Object.freeze({
    name,
    offsetBytes,
    dtype: element.structured ? structuredOf(element) : parseScalar(element.text),
    shape: Object.freeze(shape),
  })
}
