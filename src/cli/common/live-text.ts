/** Text by the columns that it takes on a terminal: cut, filled up, and bars. */

/** East Asian wide and full-width characters, by their scripts and blocks (Unicode, UAX #11), and emoji. */
const WIDE =
  /[\p{Script=Han}\p{Script=Hangul}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Bopomofo}\p{Script=Yi}\p{Emoji_Presentation}\u3000-\u303e\u3099-\u30ff\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6]/u
const ZERO_WIDTH = /^[\p{Mn}\p{Me}\p{Cf}]+$/u
const NARROW_ONLY = /^[\x20-\x7e]*$/
/** Terminals differ about an emoji of several characters; this is the most that one takes. */
const EMOJI_PRESENTATION = '\ufe0f'

const graphemes = new Intl.Segmenter(undefined, { granularity: 'grapheme' })

const graphemeWidth = (grapheme: string): number =>
  ZERO_WIDTH.test(grapheme) ? 0 : WIDE.test(grapheme) || grapheme.includes(EMOJI_PRESENTATION) ? 2 : 1

/** Returns the number of columns that a printable text takes. */
export function widthOf(text: string): number {
  if (NARROW_ONLY.test(text)) return text.length
  let width = 0
  for (const { segment } of graphemes.segment(text)) width += graphemeWidth(segment)
  return width
}

/** Cuts a text to a width of `columns`; a text that was cut ends with …. */
export function cut(text: string, columns: number): string {
  if (widthOf(text) <= columns) return text
  if (columns < 1) return ''
  let kept = ''
  let width = 0
  for (const { segment } of graphemes.segment(text)) {
    width += graphemeWidth(segment)
    if (width > columns - 1) break
    kept += segment
  }
  return `${kept}…`
}

export const padEnd = (text: string, columns: number): string => text + ' '.repeat(Math.max(0, columns - widthOf(text)))
export const padStart = (text: string, columns: number): string => ' '.repeat(Math.max(0, columns - widthOf(text))) + text

const BARS = '▁▂▃▄▅▆▇█'

/** Draws the last values as bars, the highest of them full, zero as a blank. */
export function sparkline(values: readonly number[], columns: number): string {
  const shown = values.slice(Math.max(0, values.length - columns))
  const most = Math.max(...shown, 0)
  return shown
    .map((value) => (value > 0 ? BARS[Math.min(BARS.length - 1, Math.floor((value / most) * BARS.length))] : ' '))
    .join('')
}
