/** Wraps the text below the options of `--help` to the width of the terminal. */
import type { AddHelpTextContext } from 'commander'

/**
 * Wraps a text for `addHelpText`. Lines that are indented are command lines, or explain a word; others are joined to paragraphs, which end at an empty line and before
 * a line that begins with a heading such as `JSON:`.
 */
export function footer(text: string): (context: AddHelpTextContext) => string {
  return ({ error, command }) => {
    const { getOutHelpWidth, getErrHelpWidth } = command.configureOutput()
    return wrapped(text, (error ? getErrHelpWidth?.() : getOutHelpWidth?.()) ?? 80)
  }
}

export function wrapped(text: string, width: number): string {
  const paragraphs: string[] = []
  let open = false
  for (const line of text.split('\n')) {
    const plain = line !== '' && !line.startsWith(' ')
    if (plain && open && !/^[A-Z][A-Za-z ]{1,20}:/.test(line)) paragraphs.push(`${paragraphs.pop()} ${line}`)
    else paragraphs.push(line)
    open = plain
  }
  return paragraphs.map((paragraph) => (paragraph.startsWith(' ') ? indented(paragraph, width) : fill(paragraph, width))).join('\n')
}

/**
 * Wraps a line of an example or a list. A command line continues behind a backslash, so that it can still be copied, and its comment moves to a line
 * above it. The explanation of a word continues below the explanation's beginning.
 */
function indented(line: string, width: number): string {
  if (line.length <= width) return line
  const [, command, comment] = /^(.*\S) +(# .*)$/.exec(line) ?? []
  if (command !== undefined) return `  ${comment}\n${indented(command, width)}`
  const [, word, about] = /^( +\S+ {2,})(.*)$/.exec(line) ?? []
  if (word !== undefined) return `${word}${fill(about!, width - word.length).replaceAll('\n', `\n${' '.repeat(word.length)}`)}`
  return `  ${fill(line.trim(), width - 6).replaceAll('\n', ' \\\n    ')}`
}

/** Breaks at spaces. A word that is longer than a line has one of its own. */
function fill(paragraph: string, width: number): string {
  const lines: string[] = ['']
  for (const word of paragraph.split(' ')) {
    const line = lines.at(-1)!
    if (line === '') lines[lines.length - 1] = word
    else if (line.length + 1 + word.length <= width) lines[lines.length - 1] = `${line} ${word}`
    else lines.push(word)
  }
  return lines.join('\n')
}
