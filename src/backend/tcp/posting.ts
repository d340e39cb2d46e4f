import { SegmentVector } from '../../../ffi/socket/segment-vector.js'
import type { PacketTable } from '../../batch/table.js'
import type { Posting } from '../backend.js'
import { singleEdges } from '../gather.js'

/** A batch's packets as one vector of segments, in the order of the rows. */
export class TcpPosting implements Posting {
  readonly rows: number
  readonly edge: Uint32Array
  readonly vector: SegmentVector
  /** Bytes of all packets before each row, and at the end of all of them. */
  readonly bytesBefore: Float64Array
  /** The first row behind each that goes to another substream. */
  readonly runEnd: Uint32Array

  constructor(readonly table: PacketTable) {
    const { rows, segmentStart, segmentRegion, segmentOffset, segmentLength, udpBytes, substream, regions } = table
    this.rows = rows
    this.edge = singleEdges(rows)
    const segments = segmentStart[rows]!
    this.vector = new SegmentVector(segments)
    for (let s = 0; s < segments; s++)
      this.vector.segment(s, regions[segmentRegion[s]!]!.address + segmentOffset[s]!, segmentLength[s]!)
    this.bytesBefore = new Float64Array(rows + 1)
    for (let r = 0; r < rows; r++) this.bytesBefore[r + 1] = this.bytesBefore[r]! + udpBytes[r]!
    this.runEnd = new Uint32Array(rows)
    for (let r = rows - 1; r >= 0; r--)
      this.runEnd[r] = r + 1 < rows && substream[r + 1] === substream[r] ? this.runEnd[r + 1]! : r + 1
  }

  release(): void {
    this.vector.release()
  }
}
