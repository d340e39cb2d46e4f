/** The endpoints of a capture: those that were asked for, or else all to which SPEAD was sent. */
import { SenderTable } from '../../ffi/socket/sender-table.js'
import { formatAddress } from '../net/address.js'
import { MAGIC, VERSION } from '../spead/constants.js'
import type { PcapFile } from './pcap-file.js'
import { addressIn, CUT_DATAGRAM, DATAGRAM, Frame } from './pcap-frame.js'

/** An address and a port that datagrams were sent to; zeros stand for any address. */
export interface PcapEndpoint {
  readonly bytes: Uint8Array
  readonly port: number
  readonly text: string
}

/** Bytes of a file in which destinations are looked for. */
const LOOKED_AT_BYTES = 256 << 20
/** As many as a receiver of datagrams has at most. */
const MOST_ENDPOINTS = 512
const SPEAD = (MAGIC << 8) | VERSION

/** Returns the destinations of SPEAD packets in their order, and has the file begin anew. @throws (rejects) ERR_SPEADCAST_INPUT */
export async function findEndpoints(file: PcapFile, buffer: ArrayBuffer): Promise<PcapEndpoint[]> {
  const view = new DataView(buffer)
  const frame = new Frame(view, file.linkType)
  const words = new Uint32Array(7)
  const table = new SenderTable()
  const seen = new Set<number>()
  const found = new Map<string, PcapEndpoint>()
  do {
    while (file.next()) {
      const what = frame.read(file.frameAt, file.capturedBytes, file.originalBytes)
      if (what !== DATAGRAM && what !== CUT_DATAGRAM) continue
      if (frame.payloadBytes < 8 || view.getUint16(frame.payloadAt) !== SPEAD) continue
      frame.put(words, 'destination')
      const id = table.of(words, 0)
      if (seen.has(id) || found.size >= MOST_ENDPOINTS) continue
      seen.add(id)
      const { bytes, port } = addressIn(words)
      const address = formatAddress(bytes)
      const text = bytes.length === 4 ? `${address}:${port}` : `[${address}]:${port}`
      found.set(text, { bytes, port, text })
    }
  } while (file.readBytes < LOOKED_AT_BYTES && (await file.more()))
  file.rewind()
  return [...found.values()]
}

/** Says to which endpoint a frame was sent. */
export class PcapDestinations {
  readonly #endpoints: readonly PcapEndpoint[]
  readonly #table = new SenderTable()
  readonly #words = new Uint32Array(7)
  /** By the table's number: index of an endpoint, −1 for none of them. */
  readonly #known = new Map<number, number>()

  constructor(endpoints: readonly PcapEndpoint[]) {
    this.#endpoints = endpoints
  }

  /** Returns the index of its endpoint, or −1. Allocates only for a new destination. */
  of(frame: Frame): number {
    frame.put(this.#words, 'destination')
    const id = this.#table.of(this.#words, 0)
    return this.#known.get(id) ?? this.#learn(id)
  }

  #learn(id: number): number {
    const { bytes, port } = addressIn(this.#words)
    const isOf = (endpoint: PcapEndpoint) =>
      endpoint.port === port &&
      endpoint.bytes.length === bytes.length &&
      (endpoint.bytes.every((byte) => byte === 0) || endpoint.bytes.every((byte, i) => byte === bytes[i]))
    const index = this.#endpoints.findIndex(isOf)
    // The table forgets, and gives each number once.
    if (this.#known.size >= 4096) this.#known.clear()
    this.#known.set(id, index)
    return index
  }
}
