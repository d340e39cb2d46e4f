/**
 * Draws on the terminal's other screen, by standard error. The terminal is as it was before when the process ends or stops, unless SIGKILL
 * ends it. Nothing reads from the terminal, so its modes (stty) stay.
 *
 * Sequences by xterm's ctlseqs: 1049 is the alternate screen with the cursor's place, 25 the cursor, 7 the wrapping of long lines.
 */
import { writeSync } from 'node:fs'
import { isInForeground, terminalIsSlow, waitForTerminal } from './terminal.js'

const ENTER = '\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J'
const LEAVE = '\x1b[?7h\x1b[?25h\x1b[?1049l'
const HOME = '\x1b[H'
const CLEAR_LINE = '\x1b[K'
const CLEAR_BELOW = '\x1b[J'
/** Ctrl-\ ends the process where nobody listens. Others have listeners (interrupt.ts), and process.exit an event. */
const DEADLY = 'SIGQUIT'

/** Says what a view lacks; undefined: nothing. */
export function missing(): string | undefined {
  const { TERM = '' } = process.env
  if (!process.stderr.isTTY) return 'a terminal on standard error'
  return TERM === '' || TERM === 'dumb' ? `a terminal that moves its cursor, and TERM is '${TERM}'` : undefined
}

export class Screen {
  #inside = false

  /** @param redraw is called when the terminal has another size, or is there again after Ctrl-Z */
  constructor(readonly redraw: () => void) {
    if (isInForeground()) this.#enter()
    process.stderr.on('resize', this.#onResize)
    process.on('exit', this.#leave).on('SIGTSTP', this.#onStop).on('SIGCONT', this.#onContinue)
    process.on(DEADLY, this.#onDeadly)
  }

  get columns(): number {
    return process.stderr.columns || 80
  }

  get rows(): number {
    return process.stderr.rows || 24
  }

  /** Draws lines, of which none is longer than the terminal is wide, over what was there. */
  draw(lines: readonly string[]): void {
    const mayDraw = isInForeground()
    if (this.#inside !== mayDraw) {
      if (mayDraw) this.#enter()
      else this.#give()
    }
    if (!mayDraw || terminalIsSlow()) return
    // Cleared first: behind a line that fills the terminal the cursor stands on its last character.
    const text = lines.map((line) => `${CLEAR_LINE}${line}`).join('\r\n')
    process.stderr.write(`${HOME}${text}${lines.length < this.rows ? `\r\n${CLEAR_BELOW}` : ''}`)
  }

  close(): void {
    this.#give()
    process.stderr.off('resize', this.#onResize)
    process.off('exit', this.#leave).off('SIGTSTP', this.#onStop).off('SIGCONT', this.#onContinue)
    process.off(DEADLY, this.#onDeadly)
  }

  #enter(): void {
    this.#inside = true
    process.stderr.write(ENTER)
  }

  /** Gives the screen back, behind all that was drawn. */
  #give(): void {
    if (!this.#inside) return
    this.#inside = false
    process.stderr.write(LEAVE)
  }

  /** The same at once, because the process ends or stops now. */
  readonly #leave = (): void => {
    if (!this.#inside) return
    this.#inside = false
    waitForTerminal(true)
    write(LEAVE)
  }

  readonly #onResize = (): void => {
    if (!this.#inside) return
    // The old lines stand in the wrong places for the new size, so they are cleared first.
    process.stderr.write('\x1b[2J')
    this.redraw()
  }

  readonly #onStop = (): void => {
    this.#leave()
    process.kill(process.pid, 'SIGSTOP')
    waitForTerminal(false)
  }

  readonly #onContinue = (): void => {
    // Behind `bg` the shell keeps the screen.
    if (!this.#inside && isInForeground()) this.redraw()
  }

  readonly #onDeadly = (): void => {
    this.#leave()
    this.close()
    process.kill(process.pid, DEADLY)
  }
}

/** Synchronously. A terminal that is gone needs nothing. */
function write(text: string): void {
  try {
    writeSync(process.stderr.fd, text)
  } catch {}
}
