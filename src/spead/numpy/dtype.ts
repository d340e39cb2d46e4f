/**
 * Reads whatever numpy takes for a dtype in a header: names of scalars, comma strings, tuples, lists of fields and dicts. Sizes,
 * offsets and alignments are numpy's on 64-bit Linux, and so is the text. Objects and unions (`('i4', [('re', 'i2'), ('im',
 * 'i2')])`) are refused.
 */
import { type DtypeKind, parseScalar } from '../dtype.js'
import { MAX_DIMENSIONS, MAX_FIELDS, MAX_ITEM_BYTES, quoted, Refusal, refuseUnless } from './limits.js'
import { type PythonLiteral, PythonTuple } from './literal.js'
import { fieldDict, fieldList, type PrintedField, pythonTuple } from './text.js'

export interface NumpyDtype {
  readonly kind: DtypeKind
  readonly itemBytes: number
  /** numpy's own spelling of a scalar ('<i4', '|S5'); of others what Python prints. */
  readonly text: string
  /** As numpy prints it within another dtype. */
  readonly inner: string
  readonly alignment: number
  /** A subarray's element and shape. */
  readonly base?: NumpyDtype
  readonly shape: readonly number[]
  readonly structured: boolean
  /** Those of a structured dtype, in the order of their names; padding is none. */
  readonly fields: readonly NumpyField[]
}

/** A field of a structured dtype. */
interface NumpyField {
  readonly name: string
  readonly title: string | null
  readonly dtype: NumpyDtype
  readonly offset: number
}

/** @param swap whether the byte order is the opposite of what the header names @throws Refusal */
export function readNumpyDtype(descr: PythonLiteral, swap: boolean): NumpyDtype {
  return new DtypeReader(swap).read(descr)
}

/** One element of a comma string: byte order, repetitions, byte order again, type. */
const PART = /([<>|=]?) *(?:(\d+)|\(([\d, ]*)\))? *([<>|=]?)([A-Za-z\d_?]*(?:\[[A-Za-z\d,.]+\])?) */y
/** A string that is more than a scalar's name: it repeats, or has elements. */
const COMMA_STRING = /^[<>|=]? *[\d(]|,/
const LONGEST_SCALAR = 64

class DtypeReader {
  #fields = 0
  readonly #scalars = new Map<string, NumpyDtype>()

  constructor(private readonly swap: boolean) {}

  read(descr: PythonLiteral): NumpyDtype {
    if (typeof descr === 'string') return COMMA_STRING.test(descr) ? this.#commaString(descr) : this.#scalar(descr)
    if (descr instanceof PythonTuple) return this.#tuple(descr.items)
    if (Array.isArray(descr)) return this.#list(descr)
    if (descr instanceof Map) return this.#dict(descr)
    throw new Refusal(`the numpy header's descr is ${descr}, which is no dtype`)
  }

  #scalar(text: string): NumpyDtype {
    let dtype = this.#scalars.get(text)
    if (!dtype) {
      dtype = this.#newScalar(text)
      this.#scalars.set(text, dtype)
    }
    return dtype
  }

  #newScalar(text: string): NumpyDtype {
    const empty = /^([<>|=]?)([SUV])0*$/.exec(EMPTY_NAMES.get(text) ?? text)
    if (empty) return this.#flexible(empty[2] as 'S' | 'U' | 'V', 0, empty[1] === '>')
    refuseUnless(text.length <= LONGEST_SCALAR, () => `dtype ${quoted(text)} is none of numpy's`)
    try {
      const { kind, itemSizeBytes, bigEndian, descr } = parseScalar(text.replace(/^([<>|=]?[Mm])8?(\[generic\])?$/, '$18'))
      checkItemBytes(itemSizeBytes)
      // numpy counts a date's units in a C int too: 'M8[25s]'.
      checkItemBytes(Number(/\[(\d*)/.exec(descr)?.[1] ?? 0))
      return scalarOf(
        kind,
        itemSizeBytes,
        descr.replace(/^[<>]/, () => this.#ordered(bigEndian)),
      )
    } catch {
      throw new Refusal(`dtype ${quoted(text)} is none of numpy's, or one of Python objects`)
    }
  }

  /** Makes a dtype of `length` characters or bytes. */
  #flexible(kind: 'S' | 'U' | 'V', length: number, bigEndian: boolean): NumpyDtype {
    const itemBytes = checkItemBytes(length * (kind === 'U' ? 4 : 1))
    return scalarOf(kind, itemBytes, `${kind === 'U' ? this.#ordered(bigEndian) : '|'}${kind}${length}`)
  }

  #ordered(bigEndian: boolean): string {
    return bigEndian === this.swap ? '<' : '>'
  }

  /** Reads 'i4,f8', '3i4' and '(2,3)f4'. */
  #commaString(text: string): NumpyDtype {
    const parts: NumpyDtype[] = []
    let list = false
    let at = 0
    while (at < text.length) {
      PART.lastIndex = at
      const found = PART.exec(text)
      refuseUnless(found?.[5], () => `dtype ${quoted(text)} is none of numpy's`)
      const [, before, times, tuple, after, body] = found
      refuseUnless(!before || !after || before === after, () => `dtype ${quoted(text)} names two byte orders`)
      const scalar = this.#scalar(`${before || after}${body}`)
      parts.push(subarray(scalar, times === undefined ? numbersIn(tuple ?? '') : dimensionsOf(Number(times))))
      this.#count()
      at = PART.lastIndex
      if (at === text.length) break
      refuseUnless(text[at] === ',', () => `dtype ${quoted(text)} is none of numpy's`)
      list = true
      at += /^,\s*/.exec(text.slice(at))![0].length
    }
    const [only] = parts
    return list || !only ? following(parts.map((dtype, i) => ({ name: `f${i}`, title: null, dtype }))) : only
  }

  /** Reads (dtype, shape), and (dtype, length) of a text or void without one. */
  #tuple(items: readonly PythonLiteral[]): NumpyDtype {
    const [descr, shape] = items
    refuseUnless(items.length === 2 && descr !== undefined && shape !== undefined, () => 'a dtype is a tuple of other than two')
    const base = this.read(descr)
    const { kind, itemBytes, text, structured } = base
    const open = itemBytes === 0 && (kind === 'S' || kind === 'U' || kind === 'V') && !structured && !base.base
    // The order has been swapped already where it has to be.
    if (open && typeof shape === 'number') return this.#flexible(kind, dimension(shape), (text[0] === '>') !== this.swap)
    return subarray(base, dimensionsOf(shape))
  }

  /** Reads fields that follow one another: (name, dtype), (name, dtype, shape). numpy writes padding as void without a name. */
  #list(items: readonly PythonLiteral[]): NumpyDtype {
    let offset = 0
    const fields: NumpyField[] = []
    for (const item of items) {
      const [label, descr, shape, more] = sequence(item)
      refuseUnless(
        label !== undefined && descr !== undefined && more === undefined,
        () => 'a field of a dtype is no tuple of two or three',
      )
      const [title, name] = label instanceof PythonTuple ? pairOf(label) : [null, label]
      refuseUnless(typeof name === 'string', () => 'a field of a dtype has a name that is no string')
      this.#count()
      const dtype = shape === undefined ? this.read(descr) : subarray(this.read(descr), dimensionsOf(shape))
      if (!(name === '' && dtype.kind === 'V' && !dtype.structured)) fields.push({ name, title, dtype, offset })
      offset = checkItemBytes(offset + dtype.itemBytes)
    }
    const unnamed = fields.filter(({ name }) => name === '').length
    const named = unnamed < 2 ? fields : fields.map((field, i) => ({ ...field, name: field.name || `f${i}` }))
    return struct(named, offset, 1, false)
  }

  /** Reads {'names', 'formats', 'offsets', 'titles', 'itemsize', 'aligned'}, or {name: (dtype, offset, title)}. */
  #dict(entries: ReadonlyMap<string, PythonLiteral>): NumpyDtype {
    const columns = entries.has('names') && entries.has('formats')
    const names = columns ? sequence(entries.get('names')) : [...entries.keys()]
    const rows = columns ? undefined : [...entries.values()].map((row) => sequence(row))
    const formats = rows?.map(([format]) => format) ?? sequence(entries.get('formats'))
    const offsets = rows?.map(([, offset]) => offset) ?? (entries.has('offsets') ? sequence(entries.get('offsets')) : undefined)
    const titles = rows?.map(([, , title]) => title) ?? (entries.has('titles') ? sequence(entries.get('titles')) : [])
    refuseUnless(
      formats.length === names.length && (offsets ?? names).length === names.length,
      () => 'a dtype has other numbers of names, formats and offsets',
    )
    const aligned = columns && Boolean(entries.get('aligned'))
    let end = 0
    let alignment = 1
    const fields = names.map((name, i): NumpyField => {
      const format = formats[i]
      const title = titles[i] ?? null
      refuseUnless(typeof name === 'string' && format !== undefined, () => 'a field of a dtype has no name or no format')
      refuseUnless(title === null || typeof title === 'string', () => 'a field of a dtype has a title that is no string')
      this.#count()
      const dtype = this.read(format)
      const offset = offsets ? offsets[i] : aligned ? roundUp(end, dtype.alignment) : end
      refuseUnless(typeof offset === 'number' && offset >= 0, () => 'a field of a dtype has an offset that is no number from 0 up')
      refuseUnless(!aligned || offset % dtype.alignment === 0, () => 'a field of an aligned dtype is not aligned')
      if (aligned) alignment = Math.max(alignment, dtype.alignment)
      end = Math.max(end, checkItemBytes(offset + dtype.itemBytes))
      return { name, title, dtype, offset }
    })
    // numpy takes the fields of a plain dict in the order of their offsets.
    if (!columns) fields.sort((a, b) => a.offset - b.offset)
    const itemBytes = columns ? (entries.get('itemsize') ?? roundUp(end, alignment)) : end
    refuseUnless(
      typeof itemBytes === 'number' && itemBytes >= end && itemBytes % alignment === 0,
      () => `a dtype has an itemsize that does not hold its fields, which take ${end} bytes`,
    )
    return struct(fields, checkItemBytes(itemBytes), alignment, aligned)
  }

  #count(): void {
    refuseUnless(++this.#fields <= MAX_FIELDS, () => `a dtype has more than ${MAX_FIELDS} fields`)
  }
}

const EMPTY_NAMES = new Map([
  ['str', 'U'],
  ['str_', 'U'],
  ['bytes', 'S'],
  ['bytes_', 'S'],
  ['void', 'V'],
])

const roundUp = (bytes: number, alignment: number): number => Math.ceil(bytes / alignment) * alignment

function checkItemBytes(bytes: number): number {
  refuseUnless(bytes <= MAX_ITEM_BYTES, () => `a dtype has elements of ${bytes} bytes; at most ${MAX_ITEM_BYTES}`)
  return bytes
}

function scalarOf(kind: DtypeKind, itemBytes: number, text: string): NumpyDtype {
  const shortened = kind === 'b' ? '?' : text.replace('|', '').replace(/^([<>]?[SUV])0$/, '$1')
  const alignment = kind === 'S' || kind === 'V' ? 1 : kind === 'U' ? 4 : kind === 'c' ? itemBytes / 2 : itemBytes
  return { kind, itemBytes, text, inner: `'${shortened}'`, alignment, shape: [], structured: false, fields: [] }
}

function subarray(base: NumpyDtype, shape: readonly number[]): NumpyDtype {
  if (shape.length === 0) return base
  const itemBytes = shape.reduce((bytes, size) => checkItemBytes(bytes * size), base.itemBytes)
  const text = `(${base.inner}, ${pythonTuple(shape)})`
  return { kind: 'V', itemBytes, text, inner: text, alignment: base.alignment, base, shape, structured: false, fields: [] }
}

/** A structured dtype of fields that follow one another without gaps. */
function following(parts: readonly Omit<NumpyField, 'offset'>[]): NumpyDtype {
  let end = 0
  const fields = parts.map((part) => {
    const offset = end
    end = checkItemBytes(end + part.dtype.itemBytes)
    return { ...part, offset }
  })
  return struct(fields, end, 1, false)
}

function struct(fields: readonly NumpyField[], itemBytes: number, alignment: number, aligned: boolean): NumpyDtype {
  const used = new Set<string>()
  for (const { name, title } of fields) {
    for (const label of title === null ? [name] : [name, title]) {
      refuseUnless(!used.has(label), () => `a dtype has two fields ${quoted(label)}`)
      used.add(label)
    }
  }
  const printed = fields.map(({ name, title, offset, dtype }): PrintedField => {
    const { inner, base, shape } = dtype
    return { name, title, offset, text: inner, base: base?.inner, shape }
  })
  const packed = isPacked(fields, itemBytes, aligned)
  const inner = packed ? fieldList(printed) : fieldDict(printed, itemBytes, false)
  const text = aligned ? fieldDict(printed, itemBytes, true) : inner
  return { kind: 'V', itemBytes, text, inner, alignment, shape: [], structured: true, fields }
}

/** Whether a list of the fields tells their offsets, as numpy sees it: those of an aligned dtype follow from alignments. */
function isPacked(fields: readonly NumpyField[], itemBytes: number, aligned: boolean): boolean {
  let end = 0
  let most = 1
  for (const { dtype, offset } of fields) {
    const { alignment } = dtype
    if (aligned) {
      end = roundUp(end, alignment)
      most = Math.max(most, alignment)
    }
    if (offset !== end) return false
    end += dtype.itemBytes
  }
  return roundUp(end, most) === itemBytes
}

function sequence(literal: PythonLiteral | undefined): readonly PythonLiteral[] {
  if (literal instanceof PythonTuple) return literal.items
  refuseUnless(Array.isArray(literal), () => 'a dtype has something else where fields, formats, offsets or a shape are expected')
  return literal
}

/** The title and the name of a field. */
function pairOf({ items }: PythonTuple): [title: string, name: PythonLiteral] {
  const [title, name] = items
  refuseUnless(
    items.length === 2 && typeof title === 'string' && name !== undefined,
    () => 'a field of a dtype has no title and name',
  )
  return [title, name]
}

function dimension(value: PythonLiteral): number {
  refuseUnless(typeof value === 'number' && value >= 0 && value <= MAX_ITEM_BYTES, () => 'a subarray has a dimension that is none')
  return value
}

function dimensionsOf(shape: PythonLiteral): readonly number[] {
  const dimensions = typeof shape === 'number' ? [shape] : sequence(shape)
  refuseUnless(dimensions.length <= MAX_DIMENSIONS, () => `a subarray has more than ${MAX_DIMENSIONS} dimensions`)
  return dimensions.map(dimension)
}

/** Reads the dimensions of '2, 3', the inside of a tuple. */
function numbersIn(text: string): number[] {
  const parts = text.split(',').map((part) => part.trim())
  refuseUnless(parts.length > 1 || parts[0] === '', () => `a dtype repeats (${quoted(text)}), which is no tuple`)
  if (parts.at(-1) === '') parts.pop()
  return dimensionsOf(parts.map((part) => (/^\d{1,10}$/.test(part) ? Number(part) : null))).slice()
}
