// Numbers as text.
export const showBytes = (n) => {
  for (const [unit, size] of [
    ['GiB', 2 ** 30],
    ['MiB', 2 ** 20],
    ['KiB', 2 ** 10],
  ])
    if (n >= size && n % size === 0) return `${n / size} ${unit}`
  return `${n} B`
}

export const showHogs = (n) => (n ? `beside ${n} endless loop${n > 1 ? 's' : ''}` : 'idle')

/** Bytes a second as bits: '1 Gb/s'. */
export function showRate(bytesPerSecond) {
  const megabits = (bytesPerSecond * 8) / 1e6
  return megabits >= 1000 ? `${megabits / 1000} Gb/s` : `${megabits} Mb/s`
}

/** Lines of a table, columns padded, the first flush left. */
export function table(head, lines) {
  const all = [head, ...lines]
  const width = head.map((_, c) => Math.max(...all.map((line) => String(line[c]).length)))
  const show = (line) =>
    line
      .map((cell, c) => (c ? String(cell).padStart(width[c]) : String(cell).padEnd(width[c])))
      .join('  ')
      .trimEnd()
  return [show(head), width.map((w) => '-'.repeat(w)).join('  '), ...lines.map(show)].join('\n')
}

/** '1.23 [1.20…1.27]'; one round has no interval. */
export function showRatio(r, digits = 2) {
  if (!r) return '–'
  const interval = r.low === undefined ? '[one round]' : `[${r.low.toFixed(digits)}…${r.high.toFixed(digits)}]`
  return `${r.median.toFixed(digits)} ${interval}`
}

export const verdict = (ok) => (ok ? 'met' : 'MISSED')
