/** The completion script for bash from 3.2 on, with the package bash-completion or without. */
import { FOLDERS, type Node, nodesOf, type Values } from './model.js'

export function bashScript(root: Node): string {
  const nodes = nodesOf(root)
  const flags = nodes.flatMap(({ path, flags }) =>
    flags.map(({ names, value }) => ({ patterns: names.map((name) => `${path} ${name}`), value })),
  )
  const taking = flags.flatMap(({ patterns, value }) => (value?.required ? [{ patterns, values: value.values }] : []))
  const positions = nodes.flatMap(({ path, commands, values }) => [
    ...(commands.length > 0 ? [{ patterns: [`${path} 0`], values: commands.map(({ name }) => name) }] : []),
    ...values.map(({ values, several }, i) => ({ patterns: [`${path} ${several ? '*' : i}`], values })),
  ])
  return `# Completes the arguments of ${root.name} in bash.

_${root.name}() {
  local at=${root.name} option='' ended='' count=0 prefix='' current=\${COMP_WORDS[COMP_CWORD]} word i
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    if [[ $option ]]; then
      # Where = stands in COMP_WORDBREAKS, bash takes --option=value for three words.
      [[ $word == '=' ]] || option=''
    elif [[ $ended ]]; then
      count=$((count + 1))
    else
      case "$at $word" in
        *' --') ended=yes ;;
${cases(8, [
  [nodes.slice(1).map(({ path }) => path), 'at+=" $word" count=0'],
  [taking.flatMap(({ patterns }) => patterns), 'option=$word'],
])}
        *' -'?*) ;;
        *) count=$((count + 1)) ;;
      esac
    fi
  done
  if [[ ! $option && ! $ended && $current == --*=* ]]; then
    option=\${current%%=*} prefix=$option= current=\${current#*=}
  elif [[ $option && $current == '=' ]]; then
    current=''
  fi

  COMPREPLY=()
  set --
  if [[ $option ]]; then
    case "$at $option" in
${cases(6, actions(taking))}
    esac
  elif [[ ! $ended && $current == -* ]]; then
    case $at in
${cases(
  6,
  nodes.map(({ path, flags }) => [[path], take(flags.flatMap(({ names }) => names))]),
)}
    esac
  else
    case "$at $count" in
${cases(6, actions(positions))}
    esac
  fi
  for word; do [[ $word == "$current"* ]] && COMPREPLY+=("$prefix$word"); done
}

_${root.name}_files() {
  # While it completes, bash can be told to do this itself, and knows of quotes and of ~.
  compopt -o default 2>/dev/null && return
  local file
  while IFS= read -r file; do COMPREPLY+=("$prefix$file"); done < <(compgen -f -- "$current")
}

complete -F _${root.name} ${root.name}
`
}

type Case = readonly [patterns: readonly string[], action: string]

/** The branches of a `case`, none for patterns that are not there. */
const cases = (margin: number, all: readonly Case[]): string =>
  all
    .filter(([patterns]) => patterns.length > 0)
    .map(([patterns, action]) => `${' '.repeat(margin)}${patterns.map(pattern).join(' | ')}) ${action} ;;`)
    .join('\n')

/** One branch for all that are completed alike. */
function actions(all: readonly { readonly patterns: readonly string[]; readonly values: Values }[]): Case[] {
  const alike = new Map<string, string[]>()
  for (const { patterns, values } of all) {
    if (values === 'nothing' || values.length === 0) continue
    const action = complete(values)
    alike.set(action, [...(alike.get(action) ?? []), ...patterns])
  }
  return [...alike].map(([action, patterns]) => [patterns, action])
}

function complete(values: Exclude<Values, 'nothing'>): string {
  if (values === 'files') return '_speadcast_files'
  if (values === 'interfaces' || values === 'devices')
    return `for word in ${FOLDERS[values]}/*/; do word=\${word%/}; [[ -d $word ]] && set -- "$@" "\${word##*/}"; done`
  return take(values)
}

const take = (words: readonly string[]): string => `set -- ${words.map(quoted).join(' ')}`

const quoted = (text: string): string => (/^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`)

/** A pattern that ends in a bare * matches any position. */
const pattern = (text: string): string => (text.endsWith(' *') ? `${quoted(text.slice(0, -1))}*` : quoted(text))
