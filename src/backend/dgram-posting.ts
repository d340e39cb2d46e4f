/** A batch as node:dgram takes it: the pieces of each packet as buffers over its memory. */
import { attachRegion } from '../../ffi/memory/region.js'
import type { PacketTable } from '../batch/table.js'
import type { Posting } from './backend.js'
import { singleEdges } from './gather.js'

export class DgramPosting implements Posting {
  readonly rows: number
  readonly edge: Uint32Array
  /** The buffers of each packet, as socket.send takes them. */
  readonly packets: readonly Uint8Array[][]

  constructor(readonly table: PacketTable) {
    this.rows = table.rows
    this.edge = singleEdges(table.rows)
    const memory = table.regions.map((region) => new Uint8Array(attachRegion(region)))
    this.packets = Array.from({ length: table.rows }, (_, r) => {
      const buffers: Uint8Array[] = []
      for (let s = table.segmentStart[r]!; s < table.segmentStart[r + 1]!; s++) {
        const from = table.segmentOffset[s]!
        buffers.push(memory[table.segmentRegion[s]!]!.subarray(from, from + table.segmentLength[s]!))
      }
      return buffers
    })
  }
}
