/** The completion script for zsh, in the form that `_arguments` reads (zshcompsys(1)). */
import { type Flag, FOLDERS, type Node, nodesOf, type Value, type Values } from './model.js'

export function zshScript(root: Node): string {
  return `#compdef ${root.name}
# Completes the arguments of ${root.name} in zsh.

${nodesOf(root).map(functionOf).join('\n\n')}

# Completes names of folders, or of links to folders, in the folder $1.
_${root.name}_names() {
  local -a names expl
  names=($1/*(N-/:t))
  _wanted names expl name compadd -a names
}

# As a file in $fpath it is the body of the function; with source it defines the function.
if [[ $funcstack[1] == _${root.name} ]]; then
  _${root.name} "$@"
else
  compdef _${root.name} ${root.name}
fi
`
}

const nameOf = ({ path }: Node): string => `_${path.replaceAll(' ', '_')}`

function functionOf(node: Node): string {
  const { commands, flags, values } = node
  const name = nameOf(node)
  const calls = (each: readonly string[]) => each.map((spec) => `\\\n    ${spec}`).join(' ')
  const specs = flags.flatMap(specsOf)
  if (commands.length === 0) return `${name}() {\n  _arguments -S ${calls([...specs, ...values.map(argumentSpec)])}\n}`
  // After the name of a subcommand, that command's own function completes. Other words are values, if the command takes any.
  const first = `'1:${values.length > 0 ? escaped(values[0]!.name, ':') : 'command'}:->first'`
  return `${name}() {
  local curcontext=$curcontext state line
  local -a commands
  case $words[2] in
${commands.map((each) => `    ${quoted(each.name)}) (( CURRENT > 2 )) && { shift words; (( CURRENT-- )); ${nameOf(each)}; return } ;;`).join('\n')}
  esac
  _arguments -C -S ${calls([...specs, first, ...values.map((value, i) => (value.several || i > 0 ? argumentSpec(value, i) : '')).filter(Boolean)])}
  if [[ $state == first ]]; then
    commands=(${commands.map((each) => `\n      ${quoted(`${escaped(each.name, ':')}:${escaped(each.description, '')}`)}`).join('')}
    )
    _describe command commands
  fi
}`
}

/** A spec for each name of the option; either excludes the other, but for an option of several values. */
function specsOf({ names, description, value }: Flag): string[] {
  const ends = names.some((name) => ['--help', '--version'].includes(name))
  const excluded = value?.several ? '*' : `(${ends ? '- *' : names.join(' ')})`
  return names.map((name) => {
    // -n5 and -n 5; --heaps=5 and --heaps 5.
    const form = !value
      ? name
      : name.startsWith('--')
        ? `${name}=${value.required ? '' : '-'}`
        : `${name}${value.required ? '+' : '-'}`
    const argument = value ? `${value.required ? ':' : '::'}${escaped(value.name, ':')}:${action(value.values)}` : ''
    return quoted(`${excluded}${form}[${escaped(description, '[]')}]${argument}`)
  })
}

const argumentSpec = ({ name, values, several }: Value, i: number): string =>
  quoted(`${several ? '*' : i + 1}:${escaped(name, ':')}:${action(values)}`)

function action(values: Values): string {
  if (values === 'nothing') return ' '
  if (values === 'files') return '_files'
  if (values === 'interfaces' || values === 'devices') return ` _speadcast_names ${FOLDERS[values]}`
  return `(${values.map((word) => word.replace(/[^\w./-]/g, '\\$&')).join(' ')})`
}

/** With a backslash before these characters, and before backslashes, which end a part of a spec. */
const escaped = (text: string, ending: string): string => [...text].map((c) => (`${ending}\\`.includes(c) ? `\\${c}` : c)).join('')

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`
