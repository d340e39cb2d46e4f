/** The completion script for fish from 3.4 on. */
import { FOLDERS, type Node, nodesOf, type Values } from './model.js'

export function fishScript(root: Node): string {
  const nodes = nodesOf(root)
  const taking = nodes.flatMap(({ path, flags }) =>
    flags.flatMap(({ names, value }) => (value?.required ? names.map((name) => `${path} ${name}`) : [])),
  )
  return `# Completes the arguments of ${root.name} in fish.

# Whether the cursor is behind the command $argv[1], with $argv[2] arguments before it, or with any number of them.
function __${root.name}_at
    set -l tokens (commandline -opc)
    set -e tokens[1]
    set -l at ${root.name}
    set -l count 0
    set -l state words
    for word in $tokens
        switch "$state $at $word"
            case 'value *'
                set state words
            case 'ended *'
                set count (math $count + 1)
            case 'words * --'
                set state ended
            case ${nodes
              .slice(1)
              .map(({ path }) => quoted(`words ${path}`))
              .join(' ')}
                set at "$at $word"
                set count 0
            case ${taking.map((path) => quoted(`words ${path}`)).join(' ')}
                set state value
            case 'words * -?*'
            case '*'
                set count (math $count + 1)
        end
    end
    test "$at" = "$argv[1]"; and test -z "$argv[2]" -o "$count" = "$argv[2]"
end

# Prints the names of folders, or of links to folders, in the folder $argv[1].
function __${root.name}_names
    for folder in $argv[1]/*/
        string replace -r '.*/(.+)/$' '$1' $folder
    end
end

complete -c ${root.name} -f
${nodes.map((node) => linesOf(node, root.name)).join('\n')}
`
}

function linesOf({ path, flags, values, commands }: Node, program: string): string {
  const line = (words: string, position: number | '' = '') =>
    `complete -c ${program} -n ${quoted(`__${program}_at ${quoted(path)}${position === '' ? '' : ` ${position}`}`)} ${words}`
  const described = (description: string) => `-d ${quoted(description)}`
  return [
    `\n# ${path}`,
    ...commands.map(({ name, description }) => line(`-a ${quoted(quoted(name))} ${described(description)}`, 0)),
    ...values.flatMap(({ values, several }, i) => (values === 'nothing' ? [] : [line(offer(values), several ? '' : i)])),
    ...flags.map(({ names, description, value }) => {
      const forms = names.map((name) => (name.startsWith('--') ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`)).join(' ')
      return line(`${forms} ${value ? `${value.required ? '-r ' : ''}${offer(value.values)} ` : ''}${described(description)}`)
    }),
  ].join('\n')
}

function offer(values: Values): string {
  if (values === 'nothing') return '-f'
  if (values === 'files') return '-F'
  if (values === 'interfaces' || values === 'devices') return `-f -a ${quoted(`(__speadcast_names ${FOLDERS[values]})`)}`
  // fish reads the words once more, as it reads a command line.
  return `-f -a ${quoted(values.map(quoted).join(' '))}`
}

const quoted = (text: string): string => (/^[\w./-]+$/.test(text) ? text : `'${text.replace(/[\\']/g, '\\$&')}'`)
