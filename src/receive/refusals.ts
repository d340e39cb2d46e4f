/** Tells what was refused or given up for want of memory, and what to raise so that it is not. */
import { counted } from '../errors.js'
import { STAT } from './stats.js'

const MEBI = 1 << 20
/** `recv` names the option as the library and as the command have it. */
const RAISE = 'raise heapMemoryBytes (--memory)'

export class Refusals {
  readonly #stats: Float64Array
  readonly #memoryBytes: number
  readonly #tableBytes: number
  #largestBytes = 0
  #evictedBytes = 0
  #descriptor = ''

  constructor(stats: Float64Array, memoryBytes: number, tableBytes: number) {
    this.#stats = stats
    this.#memoryBytes = memoryBytes
    this.#tableBytes = tableBytes
  }

  /** A heap of `bytes` is larger than all memory. */
  tooLarge(bytes: number): void {
    this.#stats[STAT.heapsRefused]!++
    if (bytes > this.#largestBytes) this.#largestBytes = bytes
  }

  /** A heap is given up for one of `wantedBytes`. @param bytes its own, −1 unknown */
  evicted(bytes: number, wantedBytes: number): void {
    this.#stats[STAT.heapsEvicted]!++
    this.#evictedBytes = Math.max(this.#evictedBytes, bytes, wantedBytes)
  }

  /** There is no room for what is to be remembered of a heap. */
  noRoom(): void {
    this.#stats[STAT.tablesFull]!++
  }

  /** A descriptor is not kept. @param why made printable */
  descriptor(why: string): void {
    this.#stats[STAT.descriptorsRefused]!++
    this.#descriptor = why
  }

  /** Returns a sentence for each cause. */
  texts(): string[] {
    const stats = this.#stats
    const heapsRefused = stats[STAT.heapsRefused]!
    const heapsEvicted = stats[STAT.heapsEvicted]!
    const tablesFull = stats[STAT.tablesFull]!
    const descriptorsRefused = stats[STAT.descriptorsRefused]!
    const sendersForgotten = stats[STAT.sendersForgotten]!
    const texts: string[] = []
    if (heapsRefused > 0)
      texts.push(
        `${counted(heapsRefused, 'heap')} refused: of up to ${this.#largestBytes} bytes, more than the memory for heaps has (${this.#memoryBytes}); ` +
          `${RAISE} to ${mebibytes(this.#largestBytes + 4 * MEBI)} or more`,
      )
    if (heapsEvicted > 0)
      texts.push(
        `${counted(heapsEvicted, 'heap')} given up unfinished: the memory for heaps (${this.#memoryBytes} bytes) was full, and each took up to ` +
          `${mebibytes(slotBytes(this.#evictedBytes))}; ${RAISE}, or let fewer heaps be under way at once`,
      )
    if (tablesFull > 0)
      texts.push(
        `no room ${tablesFull === 1 ? 'once' : `${tablesFull} times`}: item pointers and scattered packets of unfinished heaps filled the ${this.#tableBytes} bytes ` +
          `for what is known of heaps; ${RAISE}`,
      )
    if (descriptorsRefused > 0)
      texts.push(`${counted(descriptorsRefused, 'descriptor')} refused, the last because ${this.#descriptor}`)
    if (sendersForgotten > 0)
      texts.push(
        `${counted(sendersForgotten, 'sender')} forgotten for others: of more than 1024 that send at once, or than memory allows, the silent go`,
      )
    return texts
  }
}

const mebibytes = (bytes: number): string => `${Math.ceil(bytes / MEBI)}MiB`

/** Slots have powers of two. */
function slotBytes(bytes: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(1, bytes)))
}
