/** A posting of raw packets: frame headers are written into the room that the batch left for them. */
import type { PacketTable } from '../../batch/table.js'
import { addToSum, type FrameTemplate, MIN_FRAME_BYTES } from '../../net/frame.js'
import { type PostingOptions, VerbsPosting } from './posting.js'

export class IbverbsPosting extends VerbsPosting {
  /** Revision of the frame headers of rows from `framedFrom` on. Earlier rows were under way when headers changed. */
  headerRevision = 0
  framedFrom = 0
  readonly #templates: readonly FrameTemplate[]
  /** IPv6, and the device fills no checksums: they are computed at every post, about a nanosecond a byte. */
  readonly #sums: boolean

  /** @param templates one per substream. @throws ERR_SPEADCAST_MEMORY when the table left no room for frame headers */
  constructor(table: PacketTable, options: PostingOptions, templates: readonly FrameTemplate[], checksumOffload: boolean) {
    super(table, options, { headerBytes: templates[0]!.headerBytes, leastBytes: MIN_FRAME_BYTES, checksumOffload })
    this.#templates = templates
    this.#sums = !checksumOffload && templates[0]!.ipv6
    this.writeFrames(0, 0)
  }

  /** Writes the frame headers of rows from `first` on, by the templates as they are now. None of the rows may be under way. */
  writeFrames(first: number, headerRevision: number): void {
    this.headerRevision = headerRevision
    this.framedFrom = first
    const { segmentStart, segmentRegion, segmentOffset, udpBytes, substream } = this.table
    const templates = this.#templates
    for (let row = first; row < this.rows; row++) {
      const s = segmentStart[row]!
      const template = templates[substream[row]!]!
      template.write(this.memory[segmentRegion[s]!]!, segmentOffset[s]! - template.headerBytes, udpBytes[row]!, -1)
    }
  }

  override prepare(first: number, end: number): void {
    if (this.#sums) this.#sumUp(first, end)
    super.prepare(first, end)
  }

  #sumUp(first: number, end: number): void {
    const { segmentStart, segmentRegion, segmentOffset, segmentLength, udpBytes, substream } = this.table
    for (let row = first; row < end; row++) {
      const template = this.#templates[substream[row]!]!
      let sum = 0
      let bytes = 0
      for (let s = segmentStart[row]!; s < segmentStart[row + 1]!; s++) {
        const from = segmentOffset[s]!
        sum = addToSum(sum, this.memory[segmentRegion[s]!]!, from, from + segmentLength[s]!, (bytes & 1) === 1)
        bytes += segmentLength[s]!
      }
      const s = segmentStart[row]!
      template.write(this.memory[segmentRegion[s]!]!, segmentOffset[s]! - template.headerBytes, udpBytes[row]!, sum)
    }
  }
}
