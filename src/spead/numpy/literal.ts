/**
 * Reads a Python literal as `ast.literal_eval` does, which is how numpy reads its headers: strings, whole numbers, tuples, lists,
 * dicts, True, False and None. Python 2's `10L` and `u'…'` are read too. Floats, sets, bytes beyond ASCII and `\N{…}` are not,
 * because no numpy header has them.
 */
import { MAX_DEPTH, MAX_LITERALS, quoted, Refusal } from './limits.js'

export class PythonTuple {
  constructor(readonly items: readonly PythonLiteral[]) {}
}
export type PythonLiteral = null | boolean | number | string | PythonTuple | PythonLiteral[] | Map<string, PythonLiteral>

/** @param what names the text in a reason @throws Refusal. Takes time in proportion to the text. */
export function parsePythonLiteral(text: string, what = 'the numpy header'): PythonLiteral {
  return new Parser(text, what).whole()
}

const NUMBER = /0[xX](?:_?[0-9a-fA-F])+|0[oO](?:_?[0-7])+|0[bB](?:_?[01])+|[1-9](?:_?\d)*|0(?:_?0)*/y
/** Would make the number another one, or a name. A Python 2 `L` may follow. */
const AFTER_NUMBER = /L?(?![\w.])/y
const WORD = /[A-Za-z_]\w*/y
const SPACE = /(?:[ \t\n\r\f]+|#[^\n]*)*/y
const OPENING = /(?:[uUbB]|[rR][bB]?|[bB][rR])?(?='|")/y
const SIMPLE: Readonly<Record<string, string | undefined>> = {
  '\n': '',
  '\\': '\\',
  "'": "'",
  '"': '"',
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
}
const HEX_DIGITS: Readonly<Record<string, number | undefined>> = { x: 2, u: 4, U: 8 }
const WORDS = new Map<string, PythonLiteral>([
  ['None', null],
  ['True', true],
  ['False', false],
])

class Parser {
  #at = 0
  #depth = 0
  #literals = 0

  constructor(
    readonly text: string,
    readonly what: string,
  ) {}

  whole(): PythonLiteral {
    const value = this.#value()
    if (this.#next() !== '') throw this.#unexpected()
    return value
  }

  #value(): PythonLiteral {
    if (++this.#literals > MAX_LITERALS) throw new Refusal(`${this.what} has more than ${MAX_LITERALS} literals`)
    const next = this.#next()
    if (next === '(') return this.#nested(() => this.#tuple())
    if (next === '[') return this.#nested(() => this.#items(']'))
    if (next === '{') return this.#nested(() => this.#dict())
    if (next === '-' || next === '+' || (next >= '0' && next <= '9')) return this.#number()
    const prefix = this.#take(OPENING)
    if (prefix !== undefined) return this.#strings(prefix)
    const word = this.#take(WORD)
    const value = word === undefined ? undefined : WORDS.get(word)
    if (value === undefined) throw this.#unexpected(word)
    return value
  }

  #nested<T>(read: () => T): T {
    if (++this.#depth > MAX_DEPTH) throw new Refusal(`${this.what} nests brackets deeper than ${MAX_DEPTH}`)
    this.#at++
    const value = read()
    this.#depth--
    return value
  }

  /** Reads a tuple, or one value in brackets. */
  #tuple(): PythonLiteral {
    const items: PythonLiteral[] = []
    let comma = false
    while (this.#next() !== ')') {
      items.push(this.#value())
      comma = this.#separator(')')
    }
    this.#at++
    return items.length === 1 && !comma ? items[0]! : new PythonTuple(items)
  }

  #items(end: string): PythonLiteral[] {
    const items: PythonLiteral[] = []
    while (this.#next() !== end) {
      items.push(this.#value())
      this.#separator(end)
    }
    this.#at++
    return items
  }

  #dict(): Map<string, PythonLiteral> {
    const entries = new Map<string, PythonLiteral>()
    while (this.#next() !== '}') {
      const key = this.#value()
      if (typeof key !== 'string' || this.#next() !== ':') throw this.#unexpected()
      this.#at++
      entries.set(key, this.#value())
      this.#separator('}')
    }
    this.#at++
    return entries
  }

  /** Passes a comma. Returns whether there was one; without one the closing bracket has to come. */
  #separator(end: string): boolean {
    const next = this.#next()
    if (next !== ',' && next !== end) throw this.#unexpected()
    if (next === ',') this.#at++
    return next === ','
  }

  #number(): number {
    const sign = this.#next()
    if (sign === '-' || sign === '+') this.#at++
    this.#next()
    const digits = this.#take(NUMBER)
    if (digits === undefined || this.#take(AFTER_NUMBER) === undefined) throw this.#unexpected()
    const plain = digits.replaceAll('_', '')
    const value = Number(plain)
    if (!Number.isSafeInteger(value)) throw new Refusal(`${this.what} has the number ${quoted(plain)}, which is above 2^53 − 1`)
    return sign === '-' && value !== 0 ? -value : value
  }

  /** Reads a string whose prefix has been passed, joined with those that follow. */
  #strings(first: string): string {
    const parts: string[] = []
    let prefix: string | undefined = first
    while (prefix !== undefined) {
      this.#string(/r/i.test(prefix), parts)
      this.#next()
      prefix = this.#take(OPENING)
    }
    return parts.join('')
  }

  #string(raw: boolean, parts: string[]): void {
    const { text } = this
    const quote = text[this.#at]!
    const triple = text.startsWith(quote.repeat(3), this.#at)
    const end = triple ? quote.repeat(3) : quote
    this.#at += end.length
    for (;;) {
      const from = this.#at
      let c = text[this.#at]
      while (c !== undefined && c !== quote && c !== '\\' && (triple || c !== '\n')) c = text[++this.#at]
      parts.push(text.slice(from, this.#at))
      if (c === '\\') this.#escape(raw, parts)
      else if (c !== quote) throw new Refusal(`${this.what} has a string without an end`)
      else if (text.startsWith(end, this.#at)) break
      else {
        parts.push(c)
        this.#at++
      }
    }
    this.#at += end.length
  }

  #escape(raw: boolean, parts: string[]): void {
    const { text } = this
    const c = text[this.#at + 1]
    if (c === undefined) throw new Refusal(`${this.what} has a string without an end`)
    const from = this.#at
    this.#at += 2
    const digits = HEX_DIGITS[c]
    if (raw) parts.push(text.slice(from, this.#at))
    else if (digits !== undefined) {
      const code = text.slice(this.#at, this.#at + digits)
      if (!(code.length === digits && /^[\da-fA-F]+$/.test(code)) || Number.parseInt(code, 16) > 0x10ffff) throw this.#unexpected()
      parts.push(String.fromCodePoint(Number.parseInt(code, 16)))
      this.#at += digits
    } else if (c >= '0' && c <= '7') {
      let code = Number(c)
      for (let k = 1; k < 3 && text[this.#at]! >= '0' && text[this.#at]! <= '7'; k++) code = code * 8 + Number(text[this.#at++])
      parts.push(String.fromCharCode(code))
    } else if (c === 'N') throw this.#unexpected()
    else parts.push(SIMPLE[c] ?? text.slice(from, this.#at))
  }

  /** Returns the next character that is no space, without passing it; '' at the end. */
  #next(): string {
    const code = this.text.charCodeAt(this.#at)
    if (code <= 0x20 || code === 0x23) this.#take(SPACE)
    return this.text[this.#at] ?? ''
  }

  #take(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at
    const found = pattern.exec(this.text)
    if (!found) return undefined
    this.#at = pattern.lastIndex
    return found[0]
  }

  #unexpected(word?: string): Refusal {
    const what = word ?? this.text[this.#at]
    return new Refusal(
      what === undefined
        ? `${this.what} ends too early`
        : `${this.what} is no Python literal: ${quoted(what)} near character ${this.#at}`,
    )
  }
}
