/** Runs `speadcast bench --agent`: for each heap size a search for the highest rate that arrives whole. */

import { parseRate } from '../../../index.js'
import { complain, EXIT_FAILED } from '../../common/exit.js'
import { onInterrupt } from '../../common/interrupt.js'
import { type CommandMetrics, openMetrics } from '../../common/metrics.js'
import { printJson, say } from '../../common/print.js'
import { showLine } from '../../common/progress.js'
import { binaryBytes, clock, count } from '../../common/table.js'
import { Tally } from '../../common/tally.js'
import { waitForTerminal } from '../../common/terminal.js'
import type { BenchFlags } from '../flags.js'
import { Bursts } from './bursts.js'
import { checkAgentFlags } from './check.js'
import { Control } from './control.js'
import { type Found, foundOf } from './found.js'
import { parsePlace } from './place.js'
import { reportSearch, writePage } from './report.js'
import { RateSearch } from './search.js'
import { runStep, type Step } from './step.js'
import { describeStep, lossOf, STEP_HEAD } from './step-line.js'

const DEFAULT_SIZES: readonly number[] = [1024, 16384, 262144, 4194304]
/** The number of runs that a search usually takes, for the estimate until one search has ended. */
const USUAL_STEPS = 12
/** A run takes this much longer than the time for which it sends. */
const STEP_SECONDS = 0.5

/** @param given whether the option was given on the command line */
export async function runMaster(endpoint: string, flags: BenchFlags, given: (option: string) => boolean): Promise<void> {
  const stopping = new AbortController()
  const undo = onInterrupt(() => {
    say('interrupted: ending with what was found so far; again to end at once')
    stopping.abort()
  })
  const master = new Master(endpoint, flags, given('sizes') ? flags.sizes : DEFAULT_SIZES, stopping.signal)
  let failure: unknown
  let metrics: CommandMetrics | undefined
  try {
    checkAgentFlags(endpoint, flags, given)
    metrics = await openMetrics('bench', flags)
    await master.run(metrics)
  } catch (error) {
    failure = error
  }
  await metrics?.close()
  undo()
  const { found } = master
  if (found.length > 0 || failure === undefined) {
    try {
      const report = { endpoint, flags, found, interrupted: stopping.signal.aborted }
      master.printStart()
      reportSearch(report)
      if (found.length > 0) await writePage(report)
    } catch (error) {
      failure ??= error
    }
  }
  if (failure !== undefined && !stopping.signal.aborted) complain('bench', failure)
  else if (!stopping.signal.aborted && found.some(({ rate }) => rate === undefined)) {
    say('speadcast bench: no rate without loss was found')
    process.exitCode = EXIT_FAILED
  }
}

class Master {
  readonly found: Found[] = []
  readonly #endpoint: string
  readonly #flags: BenchFlags
  readonly #sizes: readonly number[]
  readonly #stopping: AbortSignal
  readonly #tally = new Tally('bench')
  #steps = 0
  #line = ''
  #startIsPrinted = false
  #nextCnt = 1

  constructor(endpoint: string, flags: BenchFlags, sizes: readonly number[], stopping: AbortSignal) {
    this.#endpoint = endpoint
    this.#flags = flags
    this.#sizes = sizes
    this.#stopping = stopping
  }

  async run(metrics: CommandMetrics): Promise<void> {
    const place = parsePlace('--to', this.#endpoint)
    const control = await Control.connect(
      { ...place, transport: this.#flags.backend === 'tcp' ? 'tcp' : place.transport },
      this.#stopping,
    )
    waitForTerminal(false)
    const hide = showLine(() => this.#line)
    const tcp = place.transport === 'tcp' || this.#flags.backend === 'tcp'
    try {
      for (const size of this.#sizes) {
        if (this.#stopping.aborted) return
        await this.#search(control, size, tcp, metrics)
      }
    } catch (error) {
      // The connection was closed because somebody interrupted it.
      if (!this.#stopping.aborted) throw error
    } finally {
      hide()
      waitForTerminal(true)
      control.close()
    }
  }

  async #search(control: Control, heapSizeBytes: number, tcp: boolean, metrics: CommandMetrics): Promise<void> {
    const flags = this.#flags
    const packetSizeBytes = flags.packetSize ?? control.usualPacketBytes
    const search = new RateSearch({
      accuracy: flags.accuracy / 100,
      confirm: tcp ? 0 : flags.confirm,
      mostRate: parseRate(flags.rate),
    })
    const bursts = new Bursts(flags.burst, packetSizeBytes)
    const steps: Step[] = []
    say(`heaps of ${binaryBytes(heapSizeBytes)} (${this.found.length + 1} of ${this.#sizes.length})`)
    say(STEP_HEAD)
    try {
      while (search.phase !== 'done' && !this.#stopping.aborted) {
        const { phase } = search
        this.#line = `${binaryBytes(heapSizeBytes)}, run ${steps.length + 1}, ETA ${clock(this.#secondsLeft(steps.length))}`
        const plan = {
          flags,
          heapSizeBytes,
          packetSizeBytes,
          phase,
          rate: search.next,
          burstBytes: bursts.bytes,
          firstCnt: this.#nextCnt,
          tally: this.#tally,
          stopping: this.#stopping,
          metrics,
        }
        const made = await runStep(control, plan)
        if (made === undefined) return
        const { step } = made
        this.#nextCnt = made.nextCnt
        steps.push(step)
        this.#steps++
        say(describeStep(step))
        this.printStart()
        if (flags.jsonStream) printJson({ kind: 'step', ...step })
        const again = bursts.note(step)
        if (again !== undefined) {
          say(`bursts are too long for a queue on the way: again with ${count(bursts.bytes)} bytes`)
          search.again(again)
          continue
        }
        search.note({
          rate: step.rateAsked,
          reached: step.rateReached,
          received: step.rateReceived,
          passed: step.passed,
          lost: lossOf(step),
        })
        // Nothing would arrive at another rate either, and TCP finds its rate by itself.
        if (step.cause === 'silence' || (step.cause === 'sender' && !step.passed) || tcp) break
      }
    } finally {
      if (steps.length > 0)
        this.found.push(foundOf({ transport: tcp ? 'tcp' : 'udp', heapSizeBytes, packetSizeBytes, steps }, search))
    }
  }

  /** Prints the start of --json-stream, once. */
  printStart(): void {
    const { seconds, accuracy, confirm, jsonStream } = this.#flags
    if (!jsonStream || this.#startIsPrinted) return
    this.#startIsPrinted = true
    printJson({
      kind: 'start',
      command: 'bench',
      date: new Date().toISOString(),
      agent: this.#endpoint,
      sizes: this.#sizes,
      secondsOfRun: seconds,
      accuracyPercent: accuracy,
      confirm,
    })
  }

  #secondsLeft(stepsOfThis: number): number {
    const done = this.found.length
    const usual = done > 0 ? (this.#steps - stepsOfThis) / done : USUAL_STEPS
    const steps = Math.max(1, usual - stepsOfThis) + (this.#sizes.length - done - 1) * usual
    return steps * (this.#flags.seconds + STEP_SECONDS)
  }
}
