/** Makes the loops of a stream, and gives them their news. */

import { listen, unlisten } from '../abort-listeners.js'
import { checkOptions, checkSignal, listOf, oneOf, readPlain, shown } from '../checks.js'
import type { Driver } from '../engine/driver.js'
import { LOOP_WORDS, type LoopBatch, type LoopMessage, type LoopTurn } from '../engine/loop.js'
import { ensure, SpeadcastError } from '../errors.js'
import { notOurs } from './arguments.js'
import type { Batch } from './batch.js'
import type { Batches } from './batches.js'
import type { Descriptors } from './descriptors.js'
import type { Failures } from './failures.js'
import type { Lanes } from './lanes.js'
import { Loop, type LoopHost } from './loop.js'
import type { LoopOptions, LoopReport } from './loop-types.js'
import { checkTimestamp, LoopWindow, WindowStamps } from './loop-window.js'
import { type BatchResult, Outcome, SendError } from './result.js'
import { Send } from './send.js'
import { SendPromise } from './send-promise.js'
import type { Submissions } from './submissions.js'

const LOOP_OPTIONS = ['timestamp', 'advance', 'until', 'onFailure', 'signal'] as const
const UNTIL = ['heaps', 'rounds'] as const
const ON_FAILURE = ['continue', 'stop'] as const

interface LoopParts {
  readonly driver: Driver
  readonly submissions: Submissions
  readonly lanes: Lanes
  readonly batches: Batches
  readonly descriptors: Descriptors
  readonly failures: Failures
}

interface Running {
  readonly loop: Loop
  readonly send: Send
}

export class Loops implements LoopHost {
  readonly evidence: BatchResult['evidence']
  readonly #parts: LoopParts
  readonly #all = new Map<number, Running>()
  #nextId = 1

  constructor(parts: LoopParts) {
    this.#parts = parts
    this.evidence = parts.driver.caps.evidence
    parts.submissions.loops = this
  }

  /** Some are under way, and sends wait for their ends. */
  get any(): boolean {
    return this.#all.size > 0
  }

  begin(batches: readonly Batch<object>[], wanted: LoopOptions): Loop {
    const { descriptors, submissions, driver } = this.#parts
    checkOptions('loop', wanted, LOOP_OPTIONS)
    const options = readPlain('loop', wanted, LOOP_OPTIONS)
    const { signal, onFailure = 'continue' } = options
    checkSignal('loop', signal)
    ensure(
      ON_FAILURE.includes(onFailure),
      'ERR_SPEADCAST_CONFIG',
      () => `loop: onFailure is ${shown(onFailure)}; it must be ${oneOf(ON_FAILURE)}`,
    )
    const window = this.windowOf('loop', batches, options)
    const until = endOf(options.until, window)
    for (const { template } of window.batches) descriptors.describeAhead(template)
    const id = this.#nextId++
    const words = new Float64Array(new SharedArrayBuffer(8 * LOOP_WORDS))
    const loop = new Loop(this, id, window, words, { ...options, ...(until !== undefined && { until }) })
    const send = new Send(() => {})
    send.loop = id
    const promise = new SendPromise<BatchResult>(() => {})
    const onAbort = (): void => loop.abort(signal!.reason)
    // The loop says what became of it.
    promise.observed = true
    send.promise = promise
    const over = (result: BatchResult | undefined, error: unknown): void => {
      this.#all.delete(id)
      if (signal) unlisten(signal, onAbort)
      loop.over(result, error)
    }
    Promise.prototype.then.call(
      promise,
      (result: BatchResult) => over(result, undefined),
      (error: unknown) => over(undefined, error),
    )
    if (signal) listen(signal, onAbort)
    this.#all.set(id, { loop, send })
    const turn = loop.lastTurn
    driver.loop({ type: 'loop', id, window: loop.message(window), turn, stopsOnFailure: onFailure === 'stop', words })
    submissions.submit(send)
    submissions.watch(promise)
    return loop
  }

  windowOf(call: string, batches: readonly Batch<object>[], { timestamp, advance }: LoopOptions, like?: LoopWindow): LoopWindow {
    const list = listOf(batches)
    ensure(
      list && list.length > 0,
      'ERR_SPEADCAST_VALUE',
      () =>
        `${call}: ${list ? 'the list of batches is empty' : `${shown(batches)} is no list of batches`}; give at least one batch`,
    )
    ensure(
      new Set(list).size === list.length,
      'ERR_SPEADCAST_VALUE',
      () => `${call}: a batch is in the list twice; it can be sent again only when it has settled, so make another batch`,
    )
    for (const batch of list) this.#checkBatch(call, batch, like !== undefined)
    const stamps = stampsOf(call, list, timestamp, advance)
    ensure(
      !like || (stamps?.name === like.stamps?.name && stamps?.modulus === like.stamps?.modulus && stamps?.low === like.stamps?.low),
      'ERR_SPEADCAST_VALUE',
      () => `${call}: the timestamps of the new window are of another kind; its item must be the same as the old window's`,
    )
    return new LoopWindow(list, stamps)
  }

  #checkBatch(call: string, batch: Batch<object>, isSwap: boolean): void {
    const { batches, descriptors, submissions } = this.#parts
    if (!batches.laneOf(batch)) throw notOurs(batch)
    if (batch.state !== 'free') submissions.harvest()
    ensure(batch.state === 'free', 'ERR_SPEADCAST_BATCH_STATE', () => `${call}: a batch is still in flight; await batch.free first`)
    const { template } = batch
    template.validate(batch.heaps)
    ensure(
      !template.explicitCnts || template.cnts.every((cnt) => cnt < 0),
      'ERR_SPEADCAST_HEAP_CNT',
      () => `${call}: a batch has heap cnts of its own, which would repeat in every round; fill its cnts with −1`,
    )
    ensure(
      !isSwap || !descriptors.lacks(template),
      'ERR_SPEADCAST_ITEM',
      () =>
        'swap: receivers do not know the items of the new window, and no descriptors go while a loop runs; make its batches of items that were described before',
    )
  }

  aim(batch: Batch<object>, heaps: number): LoopBatch {
    const { batches, lanes } = this.#parts
    const lane = batches.laneOf(batch)!
    lanes.aim(lane, heaps, undefined, 0)
    const { variant, rows } = lane.send
    return { variant, heaps, rows }
  }

  turn(id: number, turn: LoopTurn): void {
    this.#parts.driver.loop({ type: 'turn', id, turn })
  }

  note(promise: SendPromise<LoopReport>, error: unknown): void {
    this.#parts.failures.note(promise, error)
  }

  news(message: LoopMessage): void {
    const running = this.#all.get(message.id)
    if (!running) return
    const { loop, send } = running
    if (message.event === 'failing') {
      const { heaps, causes } = message.outcome
      this.#parts.submissions.news.failed(heaps.length, new SendError(new Outcome(heaps, causes, false, this.evidence)))
    } else if (message.event === 'over') {
      const { heaps, packets, failedHeaps, skippedHeaps, failedPackets, aborted } = message.counts
      send.heaps = aborted ? failedHeaps : heaps - failedHeaps - skippedHeaps
      send.rows = packets - failedPackets
    }
    loop.news(message)
  }

  receiverLost(substream: number): void {
    this.#parts.descriptors.tellAnew(substream)
  }

  stopAll(): void {
    for (const { loop } of this.#all.values()) loop.stop()
  }
}

function stampsOf(
  call: string,
  batches: readonly Batch<object>[],
  timestamp: string | false | undefined,
  advance: number | undefined,
): WindowStamps | undefined {
  const name = timestamp === undefined ? 'timestamp' : timestamp
  const columns = name === false ? [] : batches.map(({ template }) => template.numbers(name))
  const found = columns.filter((column) => column !== undefined)
  ensure(
    advance === undefined || (Number.isSafeInteger(advance) && advance !== 0),
    'ERR_SPEADCAST_VALUE',
    () => `${call}: advance is ${shown(advance)}; it must be a whole number other than 0`,
  )
  if (name === false || (timestamp === undefined && found.length === 0)) {
    ensure(
      advance === undefined,
      'ERR_SPEADCAST_CONFIG',
      () => `${call}: advance is of timestamps, and the loop has none; name the immediate by the option timestamp`,
    )
    return undefined
  }
  ensure(
    found.length === batches.length && found.every(({ low, modulus }) => low === found[0]!.low && modulus === found[0]!.modulus),
    'ERR_SPEADCAST_ITEM',
    () =>
      `${call}: timestamp is ${shown(name)}; every batch must have an immediate of that name, of whole numbers, of the same type, and of 6 bytes at most`,
  )
  return new WindowStamps(call, name, found, advance)
}

/** A copy of the end that was asked for. */
function endOf(until: LoopOptions['until'], { stamps }: LoopWindow): LoopOptions['until'] {
  if (until === undefined) return undefined
  if (typeof until === 'number') {
    if (!stamps?.isMonotone)
      throw new SpeadcastError(
        'ERR_SPEADCAST_CONFIG',
        `loop: until is ${until}, and ${stamps ? 'the timestamps of the window go back between two heaps' : 'the loop has no timestamps'}; give { heaps } or { rounds }`,
      )
    checkTimestamp('loop', 'until', until, stamps)
    ensure(
      until !== stamps.first,
      'ERR_SPEADCAST_VALUE',
      () => `loop: until is ${until}, the first timestamp; nothing would be sent`,
    )
    return until
  }
  checkOptions('loop, until', until, UNTIL)
  const { heaps, rounds } = readPlain('loop, until', until as { heaps?: number; rounds?: number }, UNTIL)
  ensure(
    (heaps === undefined) !== (rounds === undefined),
    'ERR_SPEADCAST_CONFIG',
    () => 'loop: until must be a timestamp, { heaps } or { rounds }, one of them',
  )
  const count = heaps ?? rounds
  ensure(
    Number.isSafeInteger(count) && count! > 0,
    'ERR_SPEADCAST_VALUE',
    () => `loop: until is ${shown(count)} ${heaps === undefined ? 'rounds' : 'heaps'}; it must be a whole number from 1 up`,
  )
  return heaps === undefined ? { rounds: rounds! } : { heaps }
}
