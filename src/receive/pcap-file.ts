/**
 * Reads the frames of a pcap file (draft-ietf-opsawg-pcap), a piece at a time, in either byte order, with time stamps in microseconds or in
 * nanoseconds. A file may be damaged or cut off: what is whole before that place is read, and `damage` says so.
 */
import type { FileHandle } from 'node:fs/promises'
import { open } from 'node:fs/promises'
import { SpeadcastError } from '../errors.js'
import { isKnownLinkType } from './pcap-frame.js'

const FILE_HEADER_BYTES = 24
const RECORD_HEADER_BYTES = 16
/** The largest frame that is believed: tcpdump's MAXIMUM_SNAPLEN of 256 KiB, four times. */
const MOST_FRAME_BYTES = 1 << 20
/** Read at once, between turns of the event loop. */
const PIECE_BYTES = 1 << 20
/** Memory for the pieces and a frame that lies across two; a multiple of 4096. */
export const PCAP_BUFFER_BYTES = MOST_FRAME_BYTES + PIECE_BYTES + 4096

const MICROSECONDS = 0xa1b2c3d4
const NANOSECONDS = 0xa1b23c4d

/** First words of files that are something else, big-endian, and what helps. */
const OTHERS: readonly (readonly [magic: number, mask: number, what: string])[] = [
  [0x0a0d0d0a, 0xffffffff, 'is a pcapng file, as Wireshark writes them; make a pcap file of it: editcap -F pcap FILE NEW'],
  [0x1f8b0000, 0xffff0000, 'is compressed; decompress it first: gunzip'],
  [0x28b52ffd, 0xffffffff, 'is compressed; decompress it first: unzstd'],
  [0xa1b2cd34, 0xffffffff, "is a pcap file of a kind of its own ('modified'); make a usual one of it: editcap -F pcap FILE NEW"],
  [0x34cdb2a1, 0xffffffff, "is a pcap file of a kind of its own ('modified'); make a usual one of it: editcap -F pcap FILE NEW"],
]

const refusal = (path: string, why: string, cause?: unknown): SpeadcastError =>
  new SpeadcastError('ERR_SPEADCAST_INPUT', `cannot read ${path}: ${why}`, { cause })

export class PcapFile {
  /** The frame that next() found lies there in the buffer, */
  frameAt = 0
  /** with as many bytes, */
  capturedBytes = 0
  /** and had as many on the wire. */
  originalBytes = 0
  timeMs = 0
  /** How the file is damaged, for a person; null as long as it is not. */
  damage: string | null = null
  readonly linkType: number
  readonly #handle: FileHandle
  readonly #path: string
  readonly #u8: Uint8Array
  readonly #view: DataView
  readonly #littleEndian: boolean
  readonly #perMillisecond: number
  #at = 0
  #end = 0
  /** Where in the file the buffer's end stands. */
  #position = FILE_HEADER_BYTES
  #atEnd = false

  private constructor(handle: FileHandle, path: string, header: DataView, buffer: ArrayBuffer) {
    this.#handle = handle
    this.#path = path
    this.#u8 = new Uint8Array(buffer, 0, PCAP_BUFFER_BYTES)
    this.#view = new DataView(buffer, 0, PCAP_BUFFER_BYTES)
    this.#littleEndian = isMagic(header.getUint32(0, true))
    this.#perMillisecond = header.getUint32(0, this.#littleEndian) === NANOSECONDS ? 1e6 : 1e3
    // The upper half says of frame check sequences.
    this.linkType = header.getUint32(20, this.#littleEndian) & 0xffff
  }

  /** @param buffer of PCAP_BUFFER_BYTES at least, whose beginning frames are read into @throws (rejects) ERR_SPEADCAST_INPUT */
  static async open(path: string, buffer: ArrayBuffer): Promise<PcapFile> {
    let handle: FileHandle
    try {
      // As long as nobody writes, a FIFO would keep a thread of libuv's, and the process from ending.
      const { O_RDONLY, O_NONBLOCK = 0 } = (await import('node:fs')).constants
      handle = await open(path, O_RDONLY | O_NONBLOCK)
    } catch (cause) {
      throw refusal(path, (cause as Error).message, cause)
    }
    try {
      if (!(await handle.stat()).isFile()) throw refusal(path, 'it must be a file, not a pipe, socket or folder')
      const header = new DataView(new ArrayBuffer(FILE_HEADER_BYTES))
      const { bytesRead } = await handle.read(header, 0, FILE_HEADER_BYTES, 0)
      const why = refused(header, bytesRead)
      if (why !== undefined) throw refusal(path, why)
      const file = new PcapFile(handle, path, header, buffer)
      if (!isKnownLinkType(file.linkType))
        throw refusal(
          path,
          `its frames are of link type ${file.linkType}; those of Ethernet (1), Linux cooked (113, 276), raw IP (101) and loopback (0) are read`,
        )
      return file
    } catch (error) {
      await handle.close()
      throw error instanceof SpeadcastError ? error : refusal(path, (error as Error).message, error)
    }
  }

  /** Device and inode. */
  async identity(): Promise<string> {
    const { dev, ino } = await this.#handle.stat({ bigint: true })
    return `${dev} ${ino}`
  }

  /** Finds the next frame in what has been read; false where it is not there whole. */
  next(): boolean {
    const at = this.#at
    if (this.damage !== null || this.#end - at < RECORD_HEADER_BYTES) return false
    const view = this.#view
    const littleEndian = this.#littleEndian
    const captured = view.getUint32(at + 8, littleEndian)
    if (captured > MOST_FRAME_BYTES) {
      this.#damaged(`a frame of ${captured} bytes is told there, and none is as large`)
      return false
    }
    if (this.#end - at < RECORD_HEADER_BYTES + captured) return false
    this.timeMs = view.getUint32(at, littleEndian) * 1000 + view.getUint32(at + 4, littleEndian) / this.#perMillisecond
    this.frameAt = at + RECORD_HEADER_BYTES
    this.capturedBytes = captured
    this.originalBytes = Math.max(captured, view.getUint32(at + 12, littleEndian))
    this.#at = this.frameAt + captured
    return true
  }

  /** Reads a piece more, when next() has found nothing. False where there is none. @throws (rejects) ERR_SPEADCAST_INPUT */
  async more(): Promise<boolean> {
    if (this.damage !== null || this.#atEnd) return false
    // A part of a record, which has less than a frame may have.
    const left = this.#end - this.#at
    this.#u8.copyWithin(0, this.#at, this.#end)
    this.#at = 0
    this.#end = left
    let bytesRead: number
    try {
      ;({ bytesRead } = await this.#handle.read(this.#u8, left, PIECE_BYTES, this.#position))
    } catch (cause) {
      throw refusal(this.#path, (cause as Error).message, cause)
    }
    if (bytesRead === 0) {
      this.#atEnd = true
      if (left > 0) this.#damaged('it ends in the middle of a frame')
      return false
    }
    this.#position += bytesRead
    this.#end = left + bytesRead
    return true
  }

  /** Begins anew with the first frame. */
  rewind(): void {
    this.#at = this.#end = 0
    this.#position = FILE_HEADER_BYTES
    this.#atEnd = false
    this.damage = null
  }

  /** Bytes of the file that next() has gone through. */
  get readBytes(): number {
    return this.#position - (this.#end - this.#at)
  }

  #damaged(what: string): void {
    this.damage = `${this.#path} is damaged at byte ${this.readBytes}: ${what}; what is before was read`
  }

  async close(): Promise<void> {
    await this.#handle.close()
  }
}

const isMagic = (word: number): boolean => word === MICROSECONDS || word === NANOSECONDS

/** The reason for which a file of this header is not read. */
function refused(header: DataView, bytes: number): string | undefined {
  if (bytes === 0) return 'it is empty'
  const magic = header.getUint32(0)
  if (bytes === FILE_HEADER_BYTES && (isMagic(magic) || isMagic(header.getUint32(0, true)))) return undefined
  const other = bytes < 4 ? undefined : OTHERS.find(([word, mask]) => (magic & mask) >>> 0 === word)
  return other ? `it ${other[2]}` : 'it is no pcap file'
}
