/** Floating-point numbers as Python's repr writes them. */

/** A float64. */
export function floatText(value: number): string {
  if (Number.isNaN(value)) return 'nan'
  if (!Number.isFinite(value)) return value > 0 ? 'inf' : '-inf'
  const size = Math.abs(value)
  if (size !== 0 && (size >= 1e16 || size < 1e-4)) return value.toExponential().replace(/e([+-])(\d)$/, 'e$10$2')
  if (Object.is(value, -0)) return '-0.0'
  const text = `${value}`
  return text.includes('.') ? text : `${text}.0`
}

/** A float32 or float16, with as few digits as tell it from its neighbours. */
export function shortestText(value: number, bits: 16 | 32): string {
  if (!Number.isFinite(value) || value === 0) return floatText(value)
  // The distance to the next one: 11 bits of a float16 count, or fewer below 2^-14.
  const step = 2 ** (Math.max(-14, Math.floor(Math.log2(Math.abs(value)))) - 10)
  for (let digits = 1; digits < 10; digits++) {
    const short = Number(value.toPrecision(digits))
    if (bits === 32 ? Math.fround(short) === value : Math.abs(short - value) < step / 2) return floatText(short)
  }
  return floatText(value)
}
