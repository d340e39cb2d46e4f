/**
 * A packet table as a chain of work requests over registered memory: frame headers written into the room the batch left for them, one
 * SGE for what is contiguous. Built once; what a send changes (heap cnts, immediates) is in the memory the SGEs point to.
 */
import { attachRegion, Region } from '../../ffi/region.js'
import { WorkRequestChain } from '../../ffi/work-requests.js'
import type { PacketTable, TableRegion } from '../batch/table.js'
import { check } from '../errors.js'
import { addToSum, type FrameTemplate, MIN_FRAME_BYTES } from '../net/frame.js'
import type { Posting } from './backend.js'
import { singleEdges } from './gather.js'

export interface PostingOptions {
  readonly number: number
  /** What its work requests carry: the number and the queue's generation. */
  readonly id: number
  readonly signalEvery: number
  readonly maxSges: number
  readonly checksumOffload: boolean
  /** One per substream. */
  readonly templates: readonly FrameTemplate[]
  /** Key of a region's registration. */
  readonly lkeyOf: (region: TableRegion) => number
}

interface Piece {
  readonly address: number
  readonly length: number
  readonly lkey: number
}

/** Rows gathered into memory of our own before each post: more segments than the device takes, or a frame below the least length. */
interface Bounce {
  readonly region: Region
  readonly bytes: Uint8Array
  /** Where row r's frame starts, or −1. */
  readonly at: Float64Array
  readonly rows: Uint32Array
}

export class IbverbsPosting implements Posting {
  readonly rows: number
  readonly edge: Uint32Array
  readonly chain: WorkRequestChain
  /** Rows posted and not completed: their memory is the device's. */
  outstanding = 0
  /** Of the MACs in the frame headers of rows from `framedFrom` on; earlier rows were under way when it changed. */
  macRevision = 0
  framedFrom = 0
  generation = 0
  readonly number: number
  id: number
  readonly #options: PostingOptions
  readonly #memory: readonly Uint8Array[]
  readonly #bounce: Bounce | undefined
  /** IPv6 without a device that fills checksums: computed at every post, about a nanosecond a byte. */
  readonly #sums: boolean

  /** @throws ERR_SPEADCAST_MEMORY when the table left no room for frame headers */
  constructor(
    readonly table: PacketTable,
    options: PostingOptions,
  ) {
    const { templates } = options
    this.#options = options
    this.number = options.number
    this.id = options.id
    this.rows = table.rows
    this.edge = singleEdges(table.rows)
    this.#memory = table.regions.map((region) => new Uint8Array(attachRegion(region)))
    this.#sums = !options.checksumOffload && templates[0]!.ipv6
    const headerBytes = templates[0]!.headerBytes
    check(
      table.headroomBytes >= headerBytes,
      'ERR_SPEADCAST_MEMORY',
      () => `the batch leaves ${table.headroomBytes} bytes in front of a packet; frame headers take ${headerBytes}`,
    )
    const lkeys = table.regions.map(options.lkeyOf)
    const pieces = Array.from({ length: table.rows }, (_, row) => this.#piecesOf(row, headerBytes, lkeys))
    this.#bounce = this.#makeBounce(pieces, headerBytes)
    const sges = pieces.reduce((sum, { length }) => sum + length, 0)
    this.chain = new WorkRequestChain(table.rows, sges, options.id, options.signalEvery, options.checksumOffload)
    let sge = 0
    for (const [row, own] of pieces.entries()) {
      this.chain.request(row, sge, own.length)
      for (const { address, length, lkey } of own) this.chain.sge(sge++, address, length, lkey)
    }
    this.writeFrames(0, 0)
  }

  #piecesOf(row: number, headerBytes: number, lkeys: readonly number[]): Piece[] {
    const { segmentStart, segmentRegion, segmentOffset, segmentLength, regions } = this.table
    const first = segmentStart[row]!
    const pieces: Piece[] = []
    for (let s = first; s < segmentStart[row + 1]!; s++) {
      const region = segmentRegion[s]!
      const front = s === first ? headerBytes : 0
      const address = regions[region]!.address + segmentOffset[s]! - front
      const length = segmentLength[s]! + front
      const last = pieces.at(-1)
      if (last && last.lkey === lkeys[region] && last.address + last.length === address)
        pieces[pieces.length - 1] = { ...last, length: last.length + length }
      else pieces.push({ address, length, lkey: lkeys[region]! })
    }
    return pieces
  }

  /** Replaces the pieces of rows that need it by one piece of a region of ours. */
  #makeBounce(pieces: Piece[][], headerBytes: number): Bounce | undefined {
    const { udpBytes } = this.table
    const rows = pieces.flatMap((own, row) =>
      own.length > this.#options.maxSges || headerBytes + udpBytes[row]! < MIN_FRAME_BYTES ? [row] : [],
    )
    if (rows.length === 0) return undefined
    const at = new Float64Array(this.table.rows).fill(-1)
    let used = 0
    for (const row of rows) {
      at[row] = used
      used += Math.ceil(Math.max(MIN_FRAME_BYTES, headerBytes + udpBytes[row]!) / 64) * 64
    }
    const region = Region.allocate(used)
    let lkey: number
    try {
      lkey = this.#options.lkeyOf(region)
    } catch (error) {
      region.release()
      throw error
    }
    for (const row of rows)
      pieces[row] = [{ address: region.address + at[row]!, length: Math.max(MIN_FRAME_BYTES, headerBytes + udpBytes[row]!), lkey }]
    return { region, bytes: new Uint8Array(region.buffer), at, rows: Uint32Array.from(rows) }
  }

  /** Memory of the posting's own that was registered with it. */
  get ownRegion(): Region | undefined {
    return this.#bounce?.region
  }

  /** Frame headers as the templates are now, of rows from `first` on: none of them may be under way. */
  writeFrames(first: number, macRevision: number): void {
    this.macRevision = macRevision
    this.framedFrom = first
    const { segmentStart, segmentRegion, segmentOffset, udpBytes, substream } = this.table
    const { templates } = this.#options
    for (let row = first; row < this.rows; row++) {
      const s = segmentStart[row]!
      const template = templates[substream[row]!]!
      template.write(this.#memory[segmentRegion[s]!]!, segmentOffset[s]! - template.headerBytes, udpBytes[row]!, -1)
    }
  }

  /** Before rows first … end−1 are posted: nothing, unless checksums or copies are asked of the CPU. */
  prepare(first: number, end: number): void {
    if (this.#sums) this.#sumUp(first, end)
    if (this.#bounce) this.#copy(this.#bounce, first, end)
  }

  #sumUp(first: number, end: number): void {
    const { segmentStart, segmentRegion, segmentOffset, segmentLength, udpBytes, substream } = this.table
    for (let row = first; row < end; row++) {
      const template = this.#options.templates[substream[row]!]!
      let sum = 0
      let bytes = 0
      for (let s = segmentStart[row]!; s < segmentStart[row + 1]!; s++) {
        const from = segmentOffset[s]!
        sum = addToSum(sum, this.#memory[segmentRegion[s]!]!, from, from + segmentLength[s]!, (bytes & 1) === 1)
        bytes += segmentLength[s]!
      }
      const s = segmentStart[row]!
      template.write(this.#memory[segmentRegion[s]!]!, segmentOffset[s]! - template.headerBytes, udpBytes[row]!, sum)
    }
  }

  #copy({ bytes, at }: Bounce, first: number, end: number): void {
    const { segmentStart, segmentRegion, segmentOffset, segmentLength, substream } = this.table
    for (let row = first; row < end; row++) {
      let to = at[row]!
      if (to < 0) continue
      let front = this.#options.templates[substream[row]!]!.headerBytes
      for (let s = segmentStart[row]!; s < segmentStart[row + 1]!; s++) {
        const from = segmentOffset[s]! - front
        const length = segmentLength[s]! + front
        bytes.set(this.#memory[segmentRegion[s]!]!.subarray(from, from + length), to)
        to += length
        front = 0
      }
    }
  }

  release(): void {
    this.chain.release()
    this.#bounce?.region.release()
  }
}
