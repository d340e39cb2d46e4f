/** `speadcast` and its commands. The module of a command is loaded when the command is asked for. */
import { readFileSync } from 'node:fs'
import { Command } from 'commander'
import { footer } from './common/help.js'

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
  completion: {
    description: 'print a script with which bash, zsh or fish completes commands, options and their values',
    load: async () => (await import('./completion/command.js')).completionCommand(wholeProgram),
  },
}

export const isCommand = (name: string): boolean => Object.hasOwn(COMMANDS, name)

function version(): string {
  // The manifest is found by a name of its own `imports`, because this file stands at another depth in the bundle than in dist/.
  const { version } = JSON.parse(readFileSync(new URL(import.meta.resolve('#package.json')), 'utf8'))
  return version
}

/** Makes `speadcast` itself, without commands. */
export const rootCommand = (): Command =>
  new Command('speadcast')
    .description('Send SPEAD heaps in batches, as fast as the hardware allows.')
    .version(version())
    // Beside the longest option a terminal of 80 columns leaves less than the 40 below which commander wraps nothing.
    .configureHelp({ minWidthToWrap: 20 })
    .addHelpText(
      'after',
      footer(`
Every command takes --help and --json (one JSON object on standard output, everything else on standard error). After an error the object is
{ error: { code, message, help (the command that says more), command, exitStatus, call and errno (where a system call failed) } }.

Exit status: 0 success, 1 failure at run time, 2 bad usage, 130 interrupted twice.

Environment:
  NODE_DEBUG=speadcast      each command tells what it chose and what happened
  SPEADCAST_VERBS_LIBRARY   name or path of libibverbs, unless --verbs-library says
  SPEADCAST_INDEX           which of several senders this is, unless --index of send says
  SPEADCAST_SENDERS         how many senders there are, unless --of says
  NOTIFY_SOCKET             set by systemd, which send and recv tell that they are ready and well
  TERM=dumb                 no line is rewritten
  NO_COLOR                  changes nothing, because nothing is printed in colours

Examples:
  speadcast demo
  speadcast recv 127.0.0.1:7148 --verify
  speadcast send 127.0.0.1:7148 --rate 1Gbps`),
    )

/** Adds every command to the program, by name and description only those that are not among `wanted`. */
export async function addCommands(program: Command, wanted: readonly string[]): Promise<void> {
  for (const [name, { description, load }] of Object.entries(COMMANDS)) {
    if (wanted.includes(name)) program.addCommand((await load()).copyInheritedSettings(program))
    else program.command(name).description(description)
  }
}

/** Makes `speadcast` with all commands and their options: what completion scripts and man pages are made from. */
export async function wholeProgram(): Promise<Command> {
  const program = rootCommand()
  await addCommands(program, Object.keys(COMMANDS))
  return program
}
