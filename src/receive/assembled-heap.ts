/** One heap, in the making or just finished; objects are reused. */
export class AssembledHeap {
  cntHigh = 0
  cntLow = 0
  sender = 0
  /** Index of the socket that received it. */
  endpoint = 0
  addressBytes = 6
  /** Payload bytes by the heap length pointer, −1 while unknown. When the heap is handed on: the bytes from `at` that may be read. */
  length = -1
  /** Where the payload lies in the buffer. */
  at = 0
  /** Whether every payload byte is there. */
  complete = false
  packets = 0
  /** When its last packet came, by the assembler's clock. */
  touched = 0
  received = 0
  /** Item pointers as pairs of high and low words, without the four standard ones of every packet. */
  pointers = new Uint32Array(32)
  pointerCount = 0
  /** The slot that it owns, or −1. */
  slot = -1
  /** Received payload as sorted, disjoint, non-touching ranges. */
  readonly starts: number[] = []
  readonly ends: number[] = []

  bucket = 0
  nextInBucket: AssembledHeap | undefined
  older: AssembledHeap | undefined
  newer: AssembledHeap | undefined

  /** The heap cnt as a double: exact to 2^53. */
  get cntNumber(): number {
    return this.cntHigh * 0x100000000 + this.cntLow
  }

  /** Where the received payload ends, gaps in it included. */
  get receivedEnd(): number {
    return this.ends.at(-1) ?? 0
  }

  /** Takes the slot over from the assembler, which otherwise reuses it as soon as onHeap returns. */
  keepSlot(): number {
    const slot = this.slot
    this.slot = -1
    return slot
  }

  /** Marks bytes start … end−1 as received. Returns 0 if they are new, 1 if all of them were there, 2 if some of them were. */
  addRange(start: number, end: number): 0 | 1 | 2 {
    const { starts, ends } = this
    const n = ends.length
    if (n > 0 && start === ends[n - 1]) {
      ends[n - 1] = end
      return 0
    }
    // Every index below is from 0 to n − 1.
    let i = 0
    if (n > 0 && start > ends[n - 1]!) i = n
    else {
      let above = n
      while (i < above) {
        const middle = (i + above) >>> 1
        if (ends[middle]! >= start) above = middle
        else i = middle + 1
      }
    }
    // Range i is the first that does not end before `start`. A range that ends exactly there is only touched.
    let touched = i < n && ends[i] === start ? i : -1
    const next = touched >= 0 ? i + 1 : i
    if (next < n && starts[next]! < end) {
      return touched < 0 && starts[next]! <= start && end <= ends[next]! ? 1 : 2
    }
    if (touched >= 0) ends[touched] = end
    else if (next < n && starts[next] === end) {
      starts[next] = start
      return 0
    } else {
      starts.splice(i, 0, start)
      ends.splice(i, 0, end)
      touched = i
    }
    if (touched + 1 < starts.length && starts[touched + 1] === end) {
      ends[touched] = ends[touched + 1]!
      starts.splice(touched + 1, 1)
      ends.splice(touched + 1, 1)
    }
    return 0
  }
}
