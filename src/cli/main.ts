#!/usr/bin/env node
/** `speadcast`: finds the command, loads that one only, and turns errors of commander into exit statuses. */
import { CommanderError } from 'commander'
import { complain, complainOfUsage, EXIT_FAILED } from './common/exit.js'
import { owesResult, say } from './common/print.js'
import { inFlags } from './common/wording.js'
import { addCommands, isCommand, rootCommand } from './program.js'

/** An error of commander's, which quotes what was given, and the line of advice that it may end with. */
function partsOf(message: string): string[] {
  const [, error = message, advice = ''] = /^(.*?)(?:\n(\(Did you mean [^\n]*\)))?\n?$/s.exec(message) ?? []
  return [error, advice].filter((part) => part !== '')
}

/** `help nix` as `nix`, because commander shows all help for it, and of `nix` it says that there is no such command. */
function withoutHelp(args: readonly string[]): readonly string[] {
  const [first, second = '-'] = args
  return first === 'help' && !second.startsWith('-') && !isCommand(second) ? args.slice(1) : args
}

/** Columns for `--help`: 80 where it is piped, and where a terminal does not tell. */
const widthOf = ({ isTTY, columns }: NodeJS.WriteStream): number => (isTTY && columns > 0 ? columns : 80)

async function main(args: readonly string[]): Promise<void> {
  const program = rootCommand()
    .exitOverride()
    .configureOutput({
      outputError: (message) => {
        for (const part of partsOf(message)) say(part)
      },
      getOutHelpWidth: () => widthOf(process.stdout),
      getErrHelpWidth: () => widthOf(process.stderr),
    })
    .showHelpAfterError('(--help lists commands and options)')
  const wanted = args.find(isCommand)
  // Compose gives a container empty variables for those that are not set, and commander takes them for values.
  for (const name of ['SPEADCAST_INDEX', 'SPEADCAST_SENDERS']) if (process.env[name] === '') delete process.env[name]
  await addCommands(program, wanted === undefined ? [] : [wanted])
  let running = wanted ?? ''
  for (const command of program.commands)
    command.hook('preSubcommand', (_, sub) => {
      running = `${command.name()} ${sub.name()}`
    })
  // The whole program has the option, so `speadcast --json` lacks a command and has no wrong option.
  const given =
    wanted === undefined
      ? args.filter((arg) => arg !== '--json' && arg !== '--json-stream')
      : wanted === 'send' && args.some((arg) => arg.includes('{index'))
        ? (await import('./common/index-words.js')).withIndex(args, process.env)
        : args
  try {
    await program.parseAsync(given, { from: 'user' })
  } catch (error) {
    // commander has written its message, or the help that was asked for.
    if (!(error instanceof CommanderError)) throw error
    if (error.exitCode === 0) return
    const message =
      error.code === 'commander.help'
        ? 'no command is given'
        : partsOf(error.message)
            .join(' ')
            .replace(/^error: /, '')
    complainOfUsage(running, message)
  }
}

// The library's warnings without Node's dressing.
const others = process.listeners('warning')
process.removeAllListeners('warning')
process.on('warning', (warning) => {
  const { code = '' } = warning as NodeJS.ErrnoException
  if (/^SPEADCAST_/.test(code)) say(`speadcast: warning: ${inFlags(warning.message)} (speadcast explain ${code})`, 'warning')
  else for (const listener of others) listener(warning)
})
// A reader that has seen enough (| head) is no failure to report, but it ends a run, and that is no success.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // The terminal has closed. SIGHUP ends the run, if it is to end, and the stop heap still goes.
  if (error.code === 'EIO' && process.stdout.isTTY) return
  const seenEnough = error.code === 'EPIPE'
  if (!seenEnough) say(`speadcast: cannot write to standard output: ${error.message}`)
  process.exit(process.exitCode ?? (seenEnough && !owesResult() ? 0 : EXIT_FAILED))
})
// Messages beside the result may find no reader (2>&1 | tee, which Ctrl-C ends too); the heaps still go.
process.stderr.on('error', () => undefined)

await main(withoutHelp(process.argv.slice(2))).catch((error) => complain(process.argv[2] ?? '', error))
