/**
 * console.log and util.inspect show objects of ours by their class, and by the few properties that tell a person what it is and how it
 * stands. This module needs nothing of Node, because Node calls a method by this symbol and hands over its own inspect (node:util,
 * "Custom inspection functions on objects").
 */
import { printable } from './printable.js'

export const INSPECT: unique symbol = Symbol.for('nodejs.util.inspect.custom') as never

interface Style {
  /** How many levels may still be shown; null is all. */
  readonly depth?: number | null
  readonly maxArrayLength?: number | null
  readonly maxStringLength?: number | null
  stylize(text: string, style: string): string
}

/** The arguments of a method [INSPECT]. */
export type Inspection = readonly [
  depth: number | null,
  style: Style,
  inspect: (value: unknown, style: Omit<Style, 'stylize'>) => string,
]

/** A list or a text of more is cut short, because a print is to fit a screen. */
const MOST_ENTRIES = 8
const MOST_CHARACTERS = 200

// biome-ignore lint/suspicious/noControlCharactersInRegex: inspect's own colours and ends of lines stay
const LAYOUT = /(\n|\x1b\[\d+m)/

/** Shows an object as its class and these properties. Never throws, whatever state the object is in. */
export function inspected(name: string, [depth, style, inspect]: Inspection, properties: () => object): string {
  if (depth !== null && depth < 0) return style.stylize(`[${name}]`, 'special')
  try {
    const text = inspect(properties(), {
      ...style,
      depth,
      maxArrayLength: Math.min(style.maxArrayLength ?? MOST_ENTRIES, MOST_ENTRIES),
      maxStringLength: Math.min(style.maxStringLength ?? MOST_CHARACTERS, MOST_CHARACTERS),
    })
    // inspect escapes control characters, and leaves line separators and marks of direction.
    return `${name} ${text
      .split(LAYOUT)
      .map((part, i) => (i % 2 === 0 ? printable(part) : part))
      .join('')}`
  } catch {
    // An object made of our prototype, for one.
    return style.stylize(`[${name}]`, 'special')
  }
}

/** A property that is shown as these words, without quotes. */
export function words(text: string): object {
  const short = text.length > MOST_CHARACTERS ? `${text.slice(0, MOST_CHARACTERS)}… (${text.length} characters)` : text
  return { [INSPECT]: (...[, style]: Inspection) => style.stylize(printable(short), 'special') }
}
