/** The items of the heaps that `send`, `bench` and `demo` send: the tutorial's, or those that flags describe. */
import { counted } from '../../errors.js'
import { type DtypeText, Item, ItemGroup } from '../../index.js'
import { usageError } from '../common/exit.js'
import type { SendFlags } from './flags.js'
import type { ItemFlag } from './item-flags.js'

const TIMESTAMP_ID = 0x1600
const SAMPLES_ID = 0x3300
const DEFAULT_HEAP_BYTES = 2 ** 20
const DEFAULT_ADDRESS_BITS = 48
const TIMESTAMP_BITS = 48

export interface SendItems {
  readonly group: ItemGroup
  /** Those that the input or the pattern fills, one after the other. */
  readonly samples: readonly Item[]
  /** Bytes of samples in a heap. */
  readonly heapBytes: number
  readonly timestamp: {
    readonly name: string
    readonly first: number
    /** From one heap to the next. */
    readonly step: number
    /** Where it wraps. */
    readonly modulo: number
  }
}

type ItemsFlags = Partial<
  Pick<
    SendFlags,
    'heapSize' | 'heapAddressBits' | 'item' | 'items' | 'dtype' | 'format' | 'timestampId' | 'timestampFormat' | 'firstTimestamp'
  > &
    Pick<SendFlags, 'timestampStep' | 'samplesPerHeap'>
>

/** The tutorial's items. */
export const tutorialItems = (heapSize: number): SendItems => sendItems({ heapSize })

/** @throws ERR_SPEADCAST_ITEM for what is no item, ERR_SPEADCAST_CONFIG for flags that contradict each other */
export function sendItems(flags: ItemsFlags): SendItems {
  const { heapAddressBits = DEFAULT_ADDRESS_BITS, timestampId = TIMESTAMP_ID, timestampFormat } = flags
  const wanted = withTimestamp(wantedItems(flags), timestampId, heapAddressBits, timestampFormat)
  refuseDoubles(wanted)
  const isFilled = ({ id, shape, value }: ItemFlag, item: Item): boolean =>
    id !== timestampId &&
    value === undefined &&
    (shape === 'rest' || item.byteLength! > (item.allowImmediate ? heapAddressBits / 8 : 0))
  const fixedBytes = wanted
    .filter(({ shape }) => shape !== 'rest')
    .map((flag) => [flag, itemOf(flag, flag.shape)] as const)
    .reduce((sum, [flag, item]) => sum + (isFilled(flag, item) ? item.byteLength! : 0), 0)
  const rows = rowsOf(
    wanted.filter(({ shape }) => shape === 'rest'),
    fixedBytes,
    flags.heapSize,
  )
  const items = wanted.map((flag) => itemOf(flag, flag.shape === 'rest' ? restOf(flag, rows) : flag.shape))
  const samples = items.filter((item, i) => isFilled(wanted[i]!, item))
  const stamps = items.find(({ id }) => id === timestampId)!
  const modulo = moduloOf(stamps, heapAddressBits)
  ensureHeld(flags, modulo, stamps.name)
  return {
    group: items.reduce<ItemGroup>((group, item) => group.add(item) as ItemGroup, new ItemGroup() as ItemGroup),
    samples,
    heapBytes: samples.reduce((sum, item) => sum + item.byteLength!, 0),
    timestamp: {
      name: stamps.name,
      first: flags.firstTimestamp ?? 0,
      step: flags.timestampStep ?? flags.samplesPerHeap ?? samplesOf(samples[0]),
      modulo,
    },
  }
}

/**
 * Returns the first whole number that the timestamp cannot be: a float of 32 bits has all of them up to 2^24.
 * @throws ERR_SPEADCAST_CONFIG for an item that does not stand in its item pointer as a number
 */
function moduloOf(
  { name, dtype, format, elements, elementBits, byteLength, allowImmediate }: Item,
  heapAddressBits: number,
): number {
  const bits = elementBits * elements!
  const kind = elements !== 1 ? 'u' : (dtype?.kind ?? (format?.length === 1 ? format[0]![0] : 'u'))
  // The stream refuses a flavour that there is not.
  const fits = heapAddressBits % 8 !== 0 || (allowImmediate && bits <= heapAddressBits)
  if (!fits || (kind === 'f' && bits !== 32))
    throw usageError(
      `the timestamp stands in its item pointer, so it has at most ${heapAddressBits} bits in whole bytes, such as ` +
        `u${Math.min(TIMESTAMP_BITS, heapAddressBits)}; item ${name} has ${kind === 'f' ? `a float of ${counted(bits, 'bit')}` : counted(bits, 'bit')}`,
    )
  if (kind === 'f') return 2 ** 24
  return Math.min(2 ** (8 * byteLength! - (kind === 'i' ? 1 : 0)), 2 ** 53)
}

/** Later timestamps start again at 0, but what was asked for must be what is sent. @throws ERR_SPEADCAST_CONFIG */
function ensureHeld({ firstTimestamp = 0, timestampStep, samplesPerHeap }: ItemsFlags, modulo: number, name: string): void {
  const asked = { 'first-timestamp': firstTimestamp, 'timestamp-step': timestampStep, 'samples-per-heap': samplesPerHeap }
  for (const [flag, value = 0] of Object.entries(asked))
    if (value >= modulo)
      throw usageError(`--${flag} is ${value}, and item ${name} holds numbers up to ${modulo - 1}; see --timestamp-format`)
}

/** The ids of the items, in the order in which their pointers stand. */
export const itemIds = (flags: ItemsFlags): number[] =>
  sendItems(flags)
    .group.items()
    .map(({ id }) => id)

function wantedItems({ item, items, dtype, format, timestampId = TIMESTAMP_ID }: ItemsFlags): readonly ItemFlag[] {
  if (dtype !== undefined && format !== undefined) throw usageError('--dtype and --format say the same; drop one of the two')
  if (item) {
    const other = items !== undefined ? '--items' : dtype !== undefined ? '--dtype' : format !== undefined ? '--format' : undefined
    if (other === undefined) return item
    throw usageError(`${other} is of the items that there are without --item, which says all of an item itself`)
  }
  if (timestampId >= SAMPLES_ID && timestampId < SAMPLES_ID + (items ?? 1))
    throw usageError(`--timestamp-id 0x${timestampId.toString(16)} is the id of the samples; use another, or say all by --item`)
  return Array.from({ length: items ?? 1 }, (_, i) => ({
    id: SAMPLES_ID + i,
    name: items === undefined ? 'adc_samples' : `adc_samples_${i}`,
    description: 'ADC converter output',
    type: format ? { format } : { dtype: dtype ?? 'i1' },
    shape: 'rest',
  }))
}

/** An item that has the timestamp's id is the timestamp. */
function withTimestamp(
  wanted: readonly ItemFlag[],
  id: number,
  heapAddressBits: number,
  format: SendFlags['timestampFormat'],
): readonly ItemFlag[] {
  const own = wanted.find((flag) => flag.id === id)
  if (own && format) throw usageError(`--timestamp-format: --item ${own.name} has the timestamp's id, and says its TYPE itself`)
  if (own?.value !== undefined) throw usageError(`--item ${own.name} has the timestamp's id, so it can have no VALUE of its own`)
  if (own) return wanted.map((flag) => (flag === own && flag.shape === 'rest' ? { ...flag, shape: [] } : flag))
  return [
    {
      id,
      name: 'timestamp',
      description: 'Index of the first sample',
      type: { format: format ?? [['u', Math.min(TIMESTAMP_BITS, heapAddressBits)]] },
      shape: [],
    },
    ...wanted,
  ]
}

/** An ItemGroup would put the second in the place of the first. */
function refuseDoubles(wanted: readonly ItemFlag[]): void {
  for (const [i, { id, name }] of wanted.entries()) {
    const before = wanted.slice(0, i).find((flag) => flag.id === id || flag.name === name)
    if (before)
      throw usageError(
        `items ${before.name} (0x${before.id.toString(16)}) and ${name} (0x${id.toString(16)}) have the same ${before.id === id ? 'id' : 'name'}; each needs its own`,
      )
  }
}

/** @throws ERR_SPEADCAST_ITEM, ERR_SPEADCAST_VALUE for what the library refuses, ERR_SPEADCAST_CONFIG for a VALUE of several elements */
function itemOf({ type, value, ...flag }: ItemFlag, shape: readonly number[] | 'rest'): Item {
  if (value !== undefined && shape !== 'rest' && shape.length > 0)
    throw usageError(`--item ${flag.name}: its VALUE is one number, ${value}, so it can have no SHAPE`)
  return new Item({
    ...flag,
    ...('dtype' in type ? { dtype: type.dtype as DtypeText } : type),
    shape: shape === 'rest' ? [] : shape,
    ...(value !== undefined && { value }),
  })
}

/** Elements that share whole bytes: 4 of 10 bits. */
function elementsOfRow(flag: ItemFlag): number {
  const { elementBits } = itemOf(flag, [])
  let elements = 1
  while ((elements * elementBits) % 8 !== 0) elements++
  return elements
}

function restOf(flag: ItemFlag, rows: number): readonly number[] {
  const elements = elementsOfRow(flag)
  return elements === 1 ? [rows] : [rows, elements]
}

/** Rows of each of the items that share what the others leave of a heap. */
function rowsOf(shares: readonly ItemFlag[], fixedBytes: number, heapSize: number | undefined): number {
  if (shares.length === 0) {
    if (heapSize === undefined || heapSize === fixedBytes) return 0
    throw usageError(
      `--heap-size ${heapSize}: the items' shapes make ${fixedBytes} bytes a heap; leave it out, or leave out the SHAPE of a dtype, because a format without one has one element`,
    )
  }
  const rowBytes = shares.reduce((sum, flag) => sum + (elementsOfRow(flag) * itemOf(flag, []).elementBits) / 8, 0)
  const bytes = (heapSize ?? DEFAULT_HEAP_BYTES) - fixedBytes
  const rows = heapSize === undefined ? Math.max(1, Math.floor(bytes / rowBytes)) : bytes / rowBytes
  if (rows > 0 && Number.isInteger(rows)) return rows
  const fits = fixedBytes + Math.max(1, Math.ceil(rows)) * rowBytes
  throw usageError(`--heap-size ${heapSize} is no whole number of ${unitOf(shares, rowBytes, fixedBytes)}; use ${fits}`)
}

function unitOf(shares: readonly ItemFlag[], rowBytes: number, fixedBytes: number): string {
  const [first] = shares
  const behind = fixedBytes === 0 ? '' : ` behind the ${fixedBytes} bytes that have a SHAPE`
  if (shares.length > 1) return `samples of ${counted(shares.length, 'item')}, ${rowBytes} bytes together${behind}`
  const elements = elementsOfRow(first!)
  const { dtype, format } = { dtype: undefined, format: undefined, ...first!.type }
  const typeText =
    dtype ?? (format as readonly (readonly [string, number])[] | undefined)!.map(([code, bits]) => `${code}${bits}`).join(',')
  return `${typeText} samples of ${elements === 1 ? '' : `${elements} in `}${rowBytes} bytes${behind}`
}

/** Samples of an item's value, as the library counts them: steps of the slowest dimension, or elements of broken bytes. */
function samplesOf(item: Item | undefined): number {
  if (!item) return 1
  return item.elementBits % 8 === 0 ? (item.shape[0] ?? 1) : item.elements!
}
