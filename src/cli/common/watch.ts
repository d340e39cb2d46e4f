/** Shows a run while it lasts, as its flags ask for: a progress line, interval lines, a JSON stream, a live view. */
import { Intervals, type Totals } from './interval.js'
import { intervalLines } from './interval-lines.js'
import { jsonStream } from './json-stream.js'
import { listenToMessages, type MessageKind, say } from './print.js'
import { showProgress } from './progress.js'
import { checkReportFlags, type ReportFlags } from './run-flags.js'
import type { Display, Subject } from './subject.js'
import { waitForTerminal } from './terminal.js'

/**
 * | state   | legal                | next                              |
 * |---------|----------------------|-----------------------------------|
 * | waiting | start, close         | running by start, over by close   |
 * | running | end, close           | over, by either                   |
 * | over    | close                | —                                 |
 *
 * Messages said while it waits stand behind the start in a JSON stream.
 */
export class Watch {
  state: 'waiting' | 'running' | 'over' = 'waiting'
  readonly #early: [line: string, kind: MessageKind, facts?: object | undefined][] = []
  #displays: readonly Display[] = []
  #intervals: Intervals | undefined

  /** @throws ERR_SPEADCAST_CONFIG for flags that contradict each other */
  constructor(
    readonly command: string,
    readonly flags: ReportFlags,
  ) {
    checkReportFlags(flags)
    if (flags.jsonStream)
      listenToMessages((...message) => {
        this.#early.push(message)
        return false
      })
  }

  /** Whether anything but a line of progress was asked for. */
  get shows(): boolean {
    const { live, jsonStream, interval } = this.flags
    return live === true || jsonStream === true || interval !== undefined
  }

  async start(subject: Subject): Promise<void> {
    this.#displays = await displaysOf(this.command, this.flags, subject)
    const hear = this.#displays.flatMap(({ message }) => message ?? [])
    for (const early of this.#early.splice(0)) for (const message of hear) message(...early)
    listenToMessages((...said) => hear.map((message) => message(...said)).includes(true))
    if (this.#displays.some(({ interval }) => interval))
      this.#intervals = new Intervals(
        this.flags.interval ?? 1,
        () => subject.totals(),
        (interval) => {
          for (const display of this.#displays) display.interval?.(interval)
        },
      )
    waitForTerminal(false)
    this.state = 'running'
  }

  /** Shows the last interval. `totals` are the run's own at its end. */
  end(totals: Totals): void {
    if (this.state === 'running') this.#intervals?.end(totals)
    this.close()
  }

  /** Ends all displays, whatever has happened: nothing shows any more, and messages go to standard error again. */
  close(): void {
    if (this.state === 'over') return
    this.state = 'over'
    listenToMessages(undefined)
    this.#intervals?.stop()
    for (const display of this.#displays) display.end?.()
    waitForTerminal(true)
  }
}

async function displaysOf(command: string, flags: ReportFlags, subject: Subject): Promise<Display[]> {
  const { live, json, jsonStream: stream } = flags
  const displays: Display[] = []
  if (stream) displays.push(jsonStream(command, flags.interval ?? 1, subject))
  let { interval } = flags
  if (live) {
    const { missing, openLive } = await import('./live.js')
    const lacks = missing()
    if (lacks === undefined) {
      displays.push(openLive(subject, interval ?? 1))
      // Lines would tear the view.
      if (process.stdout.isTTY || json) interval = undefined
    } else {
      interval ??= 1
      say(`speadcast ${command}: --live needs ${lacks}${stream ? '' : `; a line each ${interval} s instead`}`)
    }
  }
  if (interval !== undefined && !stream) displays.push(intervalLines(subject, json))
  else if (displays.length === 0 && subject.progress) displays.push({ end: showProgress(...subject.progress) })
  return displays
}
