/** The options of a session, and its summary. Types only; both cross to another thread. */
import type { OutputFileSummary, OutputOrder } from './output.js'

/**
 * Why reception ended: stop heaps ('stop'), enough heaps ('heaps'), the capture's end ('end'), `timeoutSeconds` ('timeout'), `close`
 * ('closed'), the signal ('aborted'), or an output that could not be written ('output', see `outputError`).
 */
export type EndReason = 'stop' | 'heaps' | 'end' | 'timeout' | 'closed' | 'aborted' | 'output'

export interface SessionOptions {
  readonly endpoints: number
  readonly maxHeaps: number
  /** The bound of memory for heaps, by which that for all else is measured. */
  readonly memoryBytes: number
  /** Milliseconds from the start, Infinity for none. */
  readonly timeoutMs: number
  /** The number of complete data heaps after which to end; Infinity: none ends it. */
  readonly heaps: number
  /** The number of stop heaps after which to end; Infinity: none ends it. */
  readonly stops: number
  readonly verify: boolean
  readonly hash: boolean
  readonly outputFd?: number | undefined
  readonly outputPath?: string | undefined
  /** Default 'cnt'. */
  readonly order?: OutputOrder | undefined
  /** Name or number of the item for output and hash. */
  readonly item: string | number
  readonly deliver: boolean
  /** Joins packets of one heap that come from several sockets. */
  readonly anySource: boolean
  /** The step of the heap cnts; 0: to be found. */
  readonly cntStep: number
  /** BUG_COMPAT flags of the descriptors; undefined: inferred. */
  readonly bugCompat?: number | undefined
}

/** An item that came, with what its descriptor says; null where none came. */
export interface SeenItem {
  /** Item id. */
  readonly id: number
  /** Its name. */
  readonly name: string | null
  /** For a person. */
  readonly description: string | null
  /** As in `ReceivedDescriptor`. */
  readonly dtype: string | null
  /** Its dimensions; null is one that varies. */
  readonly shape: (number | null)[] | null
  /** [code, bits] per field; empty without a format. */
  readonly format: [code: string, bits: number][]
}

/** The findings of a receiver at its end, beside its counters. */
export interface SessionSummary {
  /** Why reception ended. */
  readonly reason: EndReason
  /** Seconds from the first packet to the last. */
  readonly seconds: number
  /** Items of data heaps, and those described, up to 4096 of each. */
  readonly items: readonly SeenItem[]
  /**
   * Heaps that never came, by each sender's heap cnts, where their step is known: between the lowest and the highest with
   * data, and up to the stop heap. With `verify`, at least as many as the pattern shows.
   */
  readonly heapsMissing: number
  /** The step of the heap cnts, the same for all senders; null: not known, so none is told missing by them. */
  readonly cntStep: number | null
  /** With `verify`: the same by timestamps, which begin at 0; heaps that came incomplete are missing here. */
  readonly verifyMissing: number
  /** With `verify`: the first few corrupt heaps, each with what is wrong. */
  readonly corruptExamples: readonly string[]
  /** A sentence for each cause of which something was refused or given up for want of memory, with the option to raise. */
  readonly refusals: readonly string[]
  /** Lower-case hexadecimal; null without `hash` or `output`, where there are several files, and where a write failed. */
  readonly sha256: string | null
  /** Bytes in all files of the output, or hashed for them. */
  readonly outputBytes: number
  /** Complete data heaps that are not in the output: too late, without the item, or because a file took no more. */
  readonly outputLeftOut: number
  /** Says which write failed, and where that file ends; null if none did. The reason is 'output' unless the end had come. */
  readonly outputError: string | null
  /** How the capture of `pcapPath` is damaged, and where; what is before was read. Null if it is not. */
  readonly inputError: string | null
  /** The files of `output`; with order 'sender' one for each sender, in the order in which their data came. */
  readonly outputFiles: readonly OutputFileSummary[]
}
