// One run of the machine with its surroundings: makes missing parts, passes output on, and shows the guest's console if no answer
// comes.
import { writeFileSync } from 'node:fs'
import { interrupted, ROOT, say } from '../lib/process.mjs'
import { image } from './image.mjs'
import { runInMachine } from './machine.mjs'

const CONSOLE_LINES = 40

/** The console's last lines, and all from where a panic begins: its traces have 20 to 50 lines, by what lay on the stack. */
function consoleEnd(text) {
  const lines = text.trimEnd().split(/\r?\n/)
  const panic = lines.findLastIndex((line) => line.includes('Kernel panic'))
  return lines.slice(panic < 0 ? -CONSOLE_LINES : Math.min(panic, Math.max(0, lines.length - CONSOLE_LINES)))
}

/** @returns the command's exit status; 1 when there is none, 130 when interrupted */
export async function inMachine({ names = [], consoleFile, ...job }) {
  const made = await image()
  const passed = ([name]) => name === 'CI' || name === 'NO_COLOR' || name.startsWith('SPEADCAST_') || names.includes(name)
  const screen = []
  const result = await runInMachine(made, {
    cwd: ROOT,
    env: Object.fromEntries(Object.entries(process.env).filter(passed)),
    onConsole: (bytes) => screen.push(bytes),
    onStdout: (bytes) => process.stdout.write(bytes),
    onStderr: (bytes) => process.stderr.write(bytes),
    signal: interrupted,
    ...job,
  })
  const text = Buffer.concat(screen).toString()
  if (consoleFile) writeFileSync(consoleFile, text)
  if (result.failed === undefined) return result.status
  const shown = consoleEnd(text).map((line) => `  | ${line}`)
  say(`no exit status from the VM: ${result.failed}; its console ends with\n${shown.join('\n')}`)
  return interrupted.aborted ? 130 : 1
}
