/**
 * A packet table as a chain of work requests over registered memory, with one SGE for each contiguous piece of a packet. It is
 * built once: a send changes heap cnts and immediates in the memory that the SGEs point to.
 */
import { attachRegion, Region } from '../../../ffi/memory/region.js'
import { WorkRequestChain } from '../../../ffi/verbs/work-requests.js'
import type { PacketTable, TableRegion } from '../../batch/table.js'
import { ensure } from '../../errors.js'
import type { Posting } from '../backend.js'
import { singleEdges } from '../gather.js'

/** Numbers of postings stay below this, so that number and generation fit into the 32 bits of an id. */
export const MAX_POSTING_NUMBER = 2 ** 24

export interface PostingOptions {
  readonly number: number
  /** The queue's, from 0 to 255; it rises with every recovery. */
  readonly generation: number
  readonly signalEvery: number
  readonly maxSges: number
  /** Counts this posting as a user of a region, which is pinned from then on. @throws SpeadcastError when it cannot be */
  readonly use: (region: TableRegion) => void
}

export interface PacketForm {
  /** Bytes that the kind of queue pair puts in front of every packet. The table left room for them. */
  readonly headerBytes: number
  /** Shorter packets are padded. */
  readonly leastBytes: number
  readonly checksumOffload: boolean
}

interface Piece {
  readonly address: number
  readonly length: number
  /** Index into `regions`. */
  readonly region: number
}

/**
 * Rows that are copied into memory of our own before each post, because they have more segments than the device takes or are
 * shorter than the least length.
 */
interface Bounce {
  readonly region: Region
  readonly bytes: Uint8Array
  /** Where row r starts, or −1. */
  readonly at: Float64Array
  readonly rows: Uint32Array
}

export class VerbsPosting implements Posting {
  readonly rows: number
  readonly edge: Uint32Array
  readonly chain: WorkRequestChain
  /** The table's regions, and that which rows are copied into, if there is one. */
  readonly regions: readonly TableRegion[]
  /** The work requests name their memory by its keys. False: call `setKeys` before anything is posted. */
  keyed = false
  /** Work requests carry the id, and so do their completions: the posting's number and the generation of the queue. */
  id: number
  generation: number
  /** Bytes of the table's regions. */
  protected readonly memory: readonly Uint8Array[]
  readonly #number: number
  readonly #options: PostingOptions
  readonly #form: PacketForm
  readonly #bounce: Bounce | undefined
  /** Which of `regions` each SGE lies in. */
  readonly #regionOf: Uint16Array

  /** @throws ERR_SPEADCAST_MEMORY when the table left no room for headers */
  constructor(
    readonly table: PacketTable,
    options: PostingOptions,
    form: PacketForm,
  ) {
    const { headerBytes } = form
    this.#options = options
    this.#form = form
    this.#number = options.number
    this.generation = options.generation
    this.id = idOf(options.number, options.generation)
    this.rows = table.rows
    this.edge = singleEdges(table.rows)
    this.memory = table.regions.map((region) => new Uint8Array(attachRegion(region)))
    ensure(
      table.headroomBytes >= headerBytes,
      'ERR_SPEADCAST_MEMORY',
      () => `the batch leaves ${table.headroomBytes} bytes in front of a packet; frame headers take ${headerBytes}`,
    )
    for (const region of table.regions) options.use(region)
    const pieces = Array.from({ length: table.rows }, (_, row) => this.#piecesOf(row))
    this.#bounce = this.#makeBounce(pieces)
    this.regions = this.#bounce ? [...table.regions, this.#bounce.region] : table.regions
    const sges = pieces.reduce((sum, { length }) => sum + length, 0)
    this.chain = new WorkRequestChain(table.rows, sges, this.id, options.signalEvery, form.checksumOffload)
    let sge = 0
    this.#regionOf = new Uint16Array(sges)
    for (const [row, own] of pieces.entries()) {
      this.chain.request(row, sge, own.length)
      for (const { address, length, region } of own) {
        this.#regionOf[sge] = region
        this.chain.sge(sge++, address, length)
      }
    }
  }

  /** Names the memory by keys, one for each of `regions`. No row may be under way. */
  setKeys(lkeys: readonly number[]): void {
    for (const [sge, region] of this.#regionOf.entries()) this.chain.key(sge, lkeys[region]!)
    this.keyed = true
  }

  #piecesOf(row: number): Piece[] {
    const { segmentStart, segmentRegion, segmentOffset, segmentLength, regions } = this.table
    const first = segmentStart[row]!
    const pieces: Piece[] = []
    for (let s = first; s < segmentStart[row + 1]!; s++) {
      const region = segmentRegion[s]!
      const front = s === first ? this.#form.headerBytes : 0
      const address = regions[region]!.address + segmentOffset[s]! - front
      const length = segmentLength[s]! + front
      const last = pieces.at(-1)
      if (last && last.region === region && last.address + last.length === address)
        pieces[pieces.length - 1] = { ...last, length: last.length + length }
      else pieces.push({ address, length, region })
    }
    return pieces
  }

  /** Replaces the pieces of rows that must be copied by one piece in a region of ours. */
  #makeBounce(pieces: Piece[][]): Bounce | undefined {
    const { udpBytes } = this.table
    const { headerBytes, leastBytes } = this.#form
    const lengthOf = (row: number) => Math.max(leastBytes, headerBytes + udpBytes[row]!)
    const rows = pieces.flatMap((own, row) =>
      own.length > this.#options.maxSges || lengthOf(row) > headerBytes + udpBytes[row]! ? [row] : [],
    )
    if (rows.length === 0) return undefined
    const at = new Float64Array(this.table.rows).fill(-1)
    let used = 0
    for (const row of rows) {
      at[row] = used
      used += Math.ceil(lengthOf(row) / 64) * 64
    }
    const region = Region.allocate(used)
    try {
      this.#options.use(region)
    } catch (error) {
      region.release()
      throw error
    }
    for (const row of rows)
      pieces[row] = [{ address: region.address + at[row]!, length: lengthOf(row), region: this.table.regions.length }]
    return { region, bytes: new Uint8Array(region.buffer), at, rows: Uint32Array.from(rows) }
  }

  /** Called before rows first … end−1 are posted. Does nothing unless rows must be copied. */
  prepare(first: number, end: number): void {
    if (this.#bounce) this.#copy(this.#bounce, first, end)
  }

  #copy({ bytes, at }: Bounce, first: number, end: number): void {
    const { segmentStart, segmentRegion, segmentOffset, segmentLength } = this.table
    for (let row = first; row < end; row++) {
      let to = at[row]!
      if (to < 0) continue
      let front = this.#form.headerBytes
      for (let s = segmentStart[row]!; s < segmentStart[row + 1]!; s++) {
        const from = segmentOffset[s]! - front
        const length = segmentLength[s]! + front
        bytes.set(this.memory[segmentRegion[s]!]!.subarray(from, from + length), to)
        to += length
        front = 0
      }
    }
  }

  /** Makes the posting one of another generation. No row of it may be under way. */
  renumber(generation: number): void {
    this.generation = generation
    this.id = idOf(this.#number, generation)
    this.chain.renumber(this.id)
  }

  release(): void {
    this.chain.release()
    this.#bounce?.region.release()
  }
}

function idOf(number: number, generation: number): number {
  return generation * MAX_POSTING_NUMBER + number
}
