/**
 * The state of each sender: a source address and port that sends to one endpoint. Its heap cnts are its own, so the same cnt
 * from another is another heap. A sender has runs. In a run a heap cnt stands for one heap, and comes once; the next run begins
 * with the same cnts.
 *
 * | after               | the next run begins with                                                                        |
 * |---------------------|-------------------------------------------------------------------------------------------------|
 * | a start heap        | that heap if it is above the highest, else one that comes again, or far below the highest       |
 * | a stop heap         | a heap that comes again, or one above the stop heap's cnt, or far below the highest             |
 * | a pause of PAUSE_MS | a heap of data that comes again, or is not above the highest; others may be repeated in one run |
 * | anything else       | nothing: a heap that comes again is a copy                                                      |
 */
import type { PacketHeader } from './decode.js'
import type { PatternState } from './pattern-state.js'
import type { Sequence } from './sequence.js'

/** Silence after which a sender may have been started anew. It counts only while the receiver found nothing to take. */
const PAUSE_MS = 100
/** A heap that far below the highest is no straggler of a run that has stopped. */
const STRAGGLER_HEAPS = 1024

export class Sender {
  /** Heaps finished or given up. */
  finished = 0
  run = 0
  /** See the table above. */
  after: 'start' | 'stop' | undefined
  /** The packet under way is the first after a pause. */
  paused = false
  /** Neither of the two: a heap that comes again is a copy. */
  steady = true
  /** On the receiver's clock of idle time. */
  heardMs = 0
  /** The control heap that came last, until another heap of this sender is done: a copy of it is a copy, later it is another. */
  controlHigh = -1
  controlLow = -1
  /** A mark of each packet, and what SenderWatch knows of it on its own clock. */
  heard = false
  heardAt = 0
  telling: 'new' | 'sending' | 'silent' = 'new'
  /** Heard a second time, or again since it was last passed over for being forgotten. */
  recent = false
  pattern: PatternState | undefined
  /** Where the packet before stands in what the sender sends: its heap cnt, continued across wraps, and its payload offset. */
  #placeCnt = -1
  #placeOffset = 0

  constructor(
    readonly id: number,
    readonly number: number,
    readonly endpoint: number,
    readonly sequence: Sequence,
  ) {}

  /** Call it for each packet with the receiver's clock of idle time, and packetDone() afterwards. */
  hear(idleMs: number): void {
    if (idleMs - this.heardMs > PAUSE_MS) {
      this.paused = true
      this.steady = false
    }
    this.heardMs = idleMs
    this.heard = true
  }

  packetDone(): void {
    if (!this.paused) return
    this.paused = false
    this.steady = this.after === undefined
  }

  /** Whether a packet that was taken stands before the one before it. Numbers far from those of data, as of descriptors, do not count. */
  steppedBack({ cntHigh, cntLow, addressBytes, payloadOffset }: PacketHeader): boolean {
    const { sequence } = this
    const cnt = sequence.unwrap(cntHigh * 0x100000000 + cntLow, addressBytes)
    if (!sequence.isNear(cnt)) return false
    const back = cnt < this.#placeCnt || (cnt === this.#placeCnt && payloadOffset < this.#placeOffset)
    this.#placeCnt = cnt
    this.#placeOffset = payloadOffset
    return back
  }

  mark(after: 'start' | 'stop' | undefined): void {
    this.after = after
    this.steady = after === undefined && !this.paused
  }

  /** Whether a heap of data that has not come in this run is the first of the next. @param comesAgain see AssembledHeap */
  beginsRun(cnt: number, comesAgain: boolean): boolean {
    const { started, highest, lastCnt, knownStep } = this.sequence
    if (!started) return false
    if (cnt > highest) return this.after === 'stop' && cnt > lastCnt
    return comesAgain || (this.after !== undefined && cnt < highest - STRAGGLER_HEAPS * (knownStep || 1))
  }

  beginRun(): void {
    this.run++
    this.after = undefined
    this.paused = false
    this.steady = true
    this.controlLow = -1
    this.#placeCnt = -1
    this.sequence.close()
    this.pattern?.close()
  }
}
