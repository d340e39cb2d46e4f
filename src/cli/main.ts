#!/usr/bin/env node
/** `speadcast`: finds the command, loads that one only, and turns errors of commander into exit statuses. */
import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { complain, EXIT_FAILED, EXIT_USAGE } from './common/exit.js'
import { say } from './common/print.js'

const COMMANDS: Readonly<Record<string, { readonly description: string; readonly load: () => Promise<Command> }>> = {
  send: {
    description: 'send SPEAD heaps over UDP: the tutorial pattern, or raw samples from a file or a pipe',
    load: async () => (await import('./send/command.js')).sendCommand(),
  },
  recv: {
    description:
      'receive SPEAD heaps over UDP or TCP, as datagrams of InfiniBand or RoCE, or from a capture: count, verify or store them',
    load: async () => (await import('./recv/command.js')).recvCommand(),
  },
  bench: {
    description: 'measure how fast this host sends to an endpoint, for heaps of many sizes',
    load: async () => (await import('./bench/command.js')).benchCommand(),
  },
  devices: {
    description: 'list RDMA devices and what each can do for sending (backends ibverbs and rdma-ud)',
    load: async () => (await import('./devices.js')).devicesCommand(),
  },
  doctor: {
    description: 'say which backend would send to an endpoint, and why not the others',
    load: async () => (await import('./doctor.js')).doctorCommand(),
  },
  explain: {
    description: 'explain a code of an error or a warning, or a cause for which heaps were not sent',
    load: async () => (await import('./explain.js')).explainCommand(),
  },
  demo: {
    description: 'send heaps over loopback to a receiver of its own, check every byte, and print a table',
    load: async () => (await import('./demo/command.js')).demoCommand(),
  },
}

function version(): string {
  // By a name of the manifest's own `imports`, because this file stands at another depth in the bundle than in dist/.
  const { version } = JSON.parse(readFileSync(new URL(import.meta.resolve('#package.json')), 'utf8'))
  return version
}

/** An error of commander's, which quotes what was given and may end with a line of advice. */
function sayUsage(message: string): void {
  const [, error = message, advice] = /^(.*?)(?:\n(\(Did you mean [^\n]*\)))?\n?$/s.exec(message) ?? []
  say(error)
  if (advice) say(advice)
}

async function main(args: readonly string[]): Promise<void> {
  const program = new Command('speadcast')
    .description('Send SPEAD heaps in batches, as fast as the hardware allows.')
    .version(version())
    .exitOverride()
    .configureOutput({ outputError: (message) => sayUsage(message) })
    .showHelpAfterError('(--help lists commands and options)')
    .addHelpText(
      'after',
      `
Every command takes --help and --json (one JSON object on standard output, everything else on standard error).
Exit status: 0 success, 1 failure at run time, 2 bad usage, 130 interrupted twice.

Examples:
  speadcast demo
  speadcast recv 127.0.0.1:7148 --verify
  speadcast send 127.0.0.1:7148 --rate 1Gbps`,
    )
  const wanted = args.find((arg) => Object.hasOwn(COMMANDS, arg))
  for (const [name, { description, load }] of Object.entries(COMMANDS)) {
    if (name === wanted) program.addCommand((await load()).copyInheritedSettings(program))
    else program.command(name).description(description)
  }
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
  if (/^SPEADCAST_/.test(code)) say(`speadcast: warning: ${warning.message} (speadcast explain ${code})`)
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
