/** Rows of a packet table as bytes, for backends that copy (memory and pcap), and edges for those that merge nothing. */
import { attachRegion, isShort, type RegionFile } from '../../ffi/memory/region.js'
import { ERRNO } from '../../ffi/native-error.js'
import type { PacketTable, TableRegion } from '../batch/table.js'
import { ensure } from '../errors.js'
import { type BackendCaps, POST_SKIP, type PostResult } from './backend.js'

/** Regions a backend was told of, by address: ids are unique per isolate only. */
export class RegisteredRegions {
  readonly #bytes = new Map<number, Uint8Array>()

  /** Memory without an address (ffi/memory/region.ts) belongs to this isolate, which finds it by itself and frees it when nobody uses it. */
  register(region: TableRegion): void {
    if (region.address === 0) return
    const known = this.#bytes.get(region.address)
    if (!known || known.length < region.byteLength)
      this.#bytes.set(region.address, new Uint8Array(attachRegion(region), 0, region.byteLength))
  }

  /** The bytes of each of the table's regions. @throws Error when one was not registered: a NIC would report a local protection error */
  of(table: PacketTable): Uint8Array[] {
    return table.regions.map((region) => {
      if (region.address === 0) return new Uint8Array(attachRegion(region))
      const bytes = this.#bytes.get(region.address)
      if (!bytes || bytes.length < region.byteLength) throw new Error(`region ${region.id} was not registered before compile`)
      return bytes
    })
  }

  clear(): void {
    this.#bytes.clear()
  }
}

/**
 * Checks once what every post relies on.
 * @throws SpeadcastError ERR_SPEADCAST_SUBSTREAM, ERR_SPEADCAST_PACKET_SIZE
 */
export function checkTable(table: PacketTable, caps: BackendCaps): void {
  for (let r = 0; r < table.rows; r++) {
    const substream = table.substream[r]!
    const bytes = table.udpBytes[r]!
    ensure(
      substream < caps.substreams,
      'ERR_SPEADCAST_SUBSTREAM',
      () => `substream ${substream} of a packet is not below ${caps.substreams}`,
    )
    ensure(
      bytes <= caps.maxPacketSizeBytes,
      'ERR_SPEADCAST_PACKET_SIZE',
      () => `a packet of ${bytes} bytes exceeds the ${caps.maxPacketSizeBytes} that UDP can carry`,
    )
  }
}

/** edge[r] = r + 1: every packet can be posted by itself. */
export function singleEdges(rows: number): Uint32Array {
  return Uint32Array.from({ length: rows }, (_, r) => r + 1)
}

/** Files that the table's items live in and that may become shorter. */
export function filesOf(table: PacketTable): readonly RegionFile[] {
  return table.regions.flatMap(({ file }) => file ?? [])
}

/**
 * Refuses rows whose bytes nobody may read any more, with EFAULT as the kernel does. True if they are refused; `out` then says so.
 */
export function refusesShort(
  { table, files }: { readonly table: PacketTable; readonly files: readonly RegionFile[] },
  first: number,
  end: number,
  out: PostResult,
): boolean {
  if (files.length === 0 || !files.some(isShort)) return false
  out.kind = POST_SKIP
  out.accepted = 0
  out.skipped = end - first
  out.errno = ERRNO.EFAULT
  out.substream = table.substream[first]!
  return true
}

/** Explains EFAULT of refusesShort. */
export const SHORTER_FILE =
  'the file behind Region.fromFd is shorter than the region, and to read behind its end would end the process (EFAULT); give it its size again'
