/** HTML whose text parts are escaped: what stands in \${} is text, unless `html` or `raw` made it. */
import { printable } from '../../../errors.js'

export class Markup {
  constructor(readonly text: string) {}
}

const ESCAPES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }

type Part = string | number | Markup | readonly Markup[]

function escaped(part: Part): string {
  if (part instanceof Markup) return part.text
  if (typeof part === 'object') return part.map(({ text }) => text).join('')
  return printable(`${part}`).replace(/[&<>"']/g, (character) => ESCAPES[character]!)
}

export function html(literals: TemplateStringsArray, ...parts: readonly Part[]): Markup {
  return new Markup(literals.map((literal, i) => literal + (i < parts.length ? escaped(parts[i]!) : '')).join(''))
}

export const raw = (text: string): Markup => new Markup(text)
