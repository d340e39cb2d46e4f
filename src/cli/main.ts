#!/usr/bin/env node
/** `speadcast`: finds the command, loads that one only, and turns errors of commander into exit statuses. */
import { CommanderError } from 'commander'
import { complain, EXIT_FAILED, EXIT_USAGE } from './common/exit.js'
import { say } from './common/print.js'
import { addCommands, rootCommand } from './program.js'

/** An error of commander's, which quotes what was given and may end with a line of advice. */
function sayUsage(message: string): void {
  const [, error = message, advice] = /^(.*?)(?:\n(\(Did you mean [^\n]*\)))?\n?$/s.exec(message) ?? []
  say(error)
  if (advice) say(advice)
}

async function main(args: readonly string[]): Promise<void> {
  const program = rootCommand()
    .exitOverride()
    .configureOutput({ outputError: (message) => sayUsage(message) })
    .showHelpAfterError('(--help lists commands and options)')
  await addCommands(program, args)
  try {
    await program.parseAsync(args, { from: 'user' })
  } catch (error) {
    // commander has written its message, or the help that was asked for.
    if (!(error instanceof CommanderError)) throw error
    if (error.exitCode !== 0) process.exitCode = EXIT_USAGE
  }
}

// The library's warnings without Node's dressing.
const others = process.listeners('warning')
process.removeAllListeners('warning')
process.on('warning', (warning) => {
  const { code = '' } = warning as NodeJS.ErrnoException
  if (/^SPEADCAST_/.test(code)) say(`speadcast: warning: ${warning.message} (speadcast explain ${code})`, 'warning')
  else for (const listener of others) listener(warning)
})
// A reader that has seen enough (| head) is no failure to report.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') say(`speadcast: cannot write to standard output: ${error.message}`)
  process.exit(process.exitCode ?? EXIT_FAILED)
})
// Messages beside the result may find no reader (2>&1 | tee, which Ctrl-C ends too); the heaps still go.
process.stderr.on('error', () => undefined)

await main(process.argv.slice(2)).catch((error) => complain(process.argv[2] ?? '', error))
