/** Describes the words that a shell completes, from the Command objects that `--help` is printed from. */
import type { Command, Option } from 'commander'

/** How a value is completed: with these words, with what is on the machine at the time of TAB, or not at all. */
export type Values = readonly string[] | 'files' | 'interfaces' | 'devices' | 'nothing'

/** An argument of a command or of an option. */
export interface Value {
  /** As `--help` has it, without brackets: HOST:PORT. */
  readonly name: string
  readonly values: Values
  /** Whether another may follow. */
  readonly several: boolean
}

export interface Flag {
  /** As typed: ['-n', '--heaps']. */
  readonly names: readonly string[]
  readonly description: string
  readonly value?: Value & { readonly required: boolean }
}

export interface Node {
  readonly name: string
  /** The command and those above it: 'speadcast send'. */
  readonly path: string
  readonly description: string
  readonly flags: readonly Flag[]
  readonly values: readonly Value[]
  readonly commands: readonly Node[]
}

/**
 * @param codes what `explain` takes
 * @param above the path of the command above, and the names of its commands
 */
export function modelOf(command: Command, codes: readonly string[], above?: { path: string; names: readonly string[] }): Node {
  const help = command.createHelp()
  const path = `${above ? `${above.path} ` : ''}${command.name()}`
  const commands = help.visibleCommands(command)
  const names = commands.map((each) => each.name())
  const words: Record<string, Values> = { CODE: codes, command: above?.names ?? [] }
  return {
    name: command.name(),
    path,
    description: command.description(),
    flags: help.visibleOptions(command).map(flagOf),
    values: command.registeredArguments.map((argument) => {
      const name = argument.name()
      return { name, values: argument.argChoices ?? words[name] ?? valuesOf(name), several: argument.variadic }
    }),
    commands: commands.map((each) => modelOf(each, codes, { path, names })),
  }
}

/** All commands of the tree. */
export const nodesOf = (node: Node): Node[] => [node, ...node.commands.flatMap(nodesOf)]

function flagOf({ short, long, flags, description, required, optional, variadic, argChoices }: Option): Flag {
  const names = [short, long].filter((name) => name !== undefined)
  if (!required && !optional) return { names, description }
  const name = /[<[](.+?)(?:\.\.\.)?[>\]]$/.exec(flags)?.[1] ?? ''
  return { names, description, value: { name, values: argChoices ?? valuesOf(name), required, several: variadic } }
}

/** The kinds of values, found by the names that `--help` gives to them. */
const KINDS: readonly (readonly [RegExp, Values])[] = [
  [/^(FILE|PATH)\b/, 'files'],
  [/^NAME\|ADDRESS$/, 'interfaces'],
  [/^NAME\[:PORT\]$/, 'devices'],
]

const valuesOf = (name: string): Values => KINDS.find(([pattern]) => pattern.test(name))?.[1] ?? 'nothing'

/** Where the kernel lists them: a folder, or a link to one, for each. */
export const FOLDERS = { interfaces: '/sys/class/net', devices: '/sys/class/infiniband' } as const
