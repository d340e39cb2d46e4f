/** The terminal that a command shares with the shell and with whoever sits before it. */
import { readFileSync } from 'node:fs'

/** The handle of a stream that libuv writes; a file has none. */
type Handle = { readonly _handle?: { setBlocking?(on: boolean): void } }

/**
 * Whether a write to a terminal waits until the terminal takes it, as Node has it on Linux. After Ctrl-S it takes nothing, so a run that waited
 * would send nothing.
 */
export function waitForTerminal(wait: boolean): void {
  for (const stream of [process.stdout, process.stderr]) if (stream.isTTY) (stream as Handle)._handle?.setBlocking?.(wait)
}

/** Whether text that was written still waits for the terminal. */
export const terminalIsSlow = (): boolean => process.stderr.writableLength > 0

/**
 * Whether this process is in the foreground of its terminal: behind `&` or `bg` the shell has the screen. True where nobody says.
 */
export function isInForeground(): boolean {
  try {
    // proc_pid_stat(5): behind the command's name, which may hold anything, are state, ppid, pgrp, session, tty_nr and tpgid.
    const stat = readFileSync('/proc/self/stat', 'latin1')
    const [, , group, , , foreground = '-1'] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return foreground === '-1' || foreground === group
  } catch {
    return true
  }
}
