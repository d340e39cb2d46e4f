// How every figure looks: one look of each program wherever it is drawn, and axes in the units that readers think in.

/** Okabe and Ito's colours, which those who do not see red and green apart can tell. `dash`: on and off, in pixels. */
const LOOKS = {
  floor: { label: 'C floor', color: '#000000', shape: 'cross', dash: [5, 3] },
  spead2: { label: 'spead2 (Python), built with segmentation', color: '#D55E00', shape: 'square' },
  'spead2-wheel': { label: 'spead2 (Python), wheel from PyPI', color: '#E69F00', shape: 'diamond' },
  dgram: { label: 'node:dgram', color: '#CC79A7', shape: 'triangle-up' },
  ours: { label: 'speadcast', color: '#0072B2', shape: 'circle' },
  'ours-sendmmsg': { label: 'speadcast, copying (sendmmsg)', color: '#56B4E9', shape: 'triangle-down' },
  'ours-sendmmsg-greedy': {
    label: 'the same, packets as spead2 cuts them',
    color: '#009E73',
    shape: 'triangle-right',
    dash: [2, 2],
  },
  'ours-one': { label: 'speadcast, header and payload in one piece', color: '#56B4E9', shape: 'triangle-down' },
  'ours-two': { label: 'speadcast, header and payload apart', color: '#0072B2', shape: 'circle' },
  raw_ethernet_bw: { label: 'raw_ethernet_bw (perftest), nothing patched', color: '#CC79A7', shape: 'triangle-up' },
}
/** For programs that a user brought. */
const OTHERS = [
  { color: '#009E73', shape: 'triangle-left' },
  { color: '#999999', shape: 'triangle-right' },
  { color: '#7F5200', shape: 'wedge' },
]
const ORDER = Object.keys(LOOKS)

/**
 * Known programs in the table's order, then the others by name: the same rows give the same figure. `labels` in place of the
 * table's.
 */
export function looksOf(programs, labels = {}) {
  const known = ORDER.filter((name) => programs.includes(name))
  const others = [...new Set(programs)].filter((name) => !ORDER.includes(name)).sort()
  return [
    ...known.map((name) => ({ name, dash: [1, 0], ...LOOKS[name], ...(labels[name] && { label: labels[name] }) })),
    ...others.map((name, i) => ({ name, label: name, dash: [1, 0], ...OTHERS[i % OTHERS.length] })),
  ]
}

/** Colour, shape and dash of a field `program` that holds labels, in one legend. */
export function encodingOf(looks, columns) {
  const scale = (range) => ({ domain: looks.map(({ label }) => label), range: looks.map(range) })
  const legend = {
    orient: 'top',
    direction: 'horizontal',
    columns,
    title: null,
    symbolSize: 70,
    symbolOpacity: 1,
    symbolStrokeWidth: 0,
  }
  const field = { field: 'program', type: 'nominal', legend }
  return {
    color: { ...field, scale: scale(({ color }) => color) },
    shape: { ...field, scale: scale(({ shape }) => shape) },
    strokeDash: { ...field, scale: scale(({ dash }) => dash) },
  }
}

/**
 * Median as line and points, least to greatest as a band or, where points stand apart, as bars. Field `told` is a point in words.
 */
export function layers({ spread = 'band', x, y, color, shape, strokeDash }) {
  const range = { x, y: { ...y, field: 'least' }, y2: { field: 'most' }, color }
  const middle = { x, y: { ...y, field: 'median' }, color }
  const quiet = { aria: false, clip: true }
  return [
    spread === 'band'
      ? { mark: { type: 'area', opacity: 0.16, ...quiet }, encoding: range }
      : { mark: { type: 'rule', opacity: 0.55, strokeWidth: 2, ...quiet }, encoding: range },
    { mark: { type: 'line', strokeWidth: 2, ...quiet }, encoding: { ...middle, strokeDash } },
    {
      mark: { type: 'point', filled: true, size: 44, opacity: 1 },
      encoding: { ...middle, shape, description: { field: 'told', type: 'nominal' } },
    },
  ]
}

const BYTES_LABEL =
  "datum.value >= 1048576 ? format(datum.value / 1048576, 'd') + ' MiB' : datum.value >= 1024 ? format(datum.value / 1024, 'd') + ' KiB' : format(datum.value, 'd') + ' B'"

/** Labels that fit beside one another. */
const MOST_LABELS = 13

/** Bytes on a binary logarithmic axis; a tick for every power of two, or every second one. */
export function bytesAxis(field, title, [least, most]) {
  const step = Math.log2(most / least) < MOST_LABELS ? 1 : 2
  const values = []
  for (let power = Math.ceil(Math.log2(least)); power <= Math.log2(most); power += step) values.push(2 ** power)
  return {
    field,
    type: 'quantitative',
    title,
    scale: { type: 'log', base: 2, domain: [least, most], nice: false },
    axis: { values, labelExpr: BYTES_LABEL, grid: true },
  }
}

export const gigabytesAxis = {
  type: 'quantitative',
  title: 'payload, GB/s',
  scale: { zero: true },
  axis: { format: 'd', tickMinStep: 1 },
}

/** The part that all specifications share. */
export const frame = (title, subtitle) => ({
  $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
  background: '#FFFFFF',
  padding: 12,
  title: { text: title, subtitle, anchor: 'start' },
  config: {
    font: 'Open Sans',
    title: { fontSize: 16, fontWeight: 600, subtitleFontSize: 12, subtitleColor: '#555555', subtitlePadding: 5, offset: 12 },
    axis: {
      labelFontSize: 12,
      titleFontSize: 13,
      titleFontWeight: 400,
      gridColor: '#E4E4E4',
      labelColor: '#333333',
      titlePadding: 8,
      labelFlush: false,
    },
    header: { labelFontSize: 13, labelFontWeight: 600, title: null },
    legend: { labelFontSize: 12, labelLimit: 400, columnPadding: 16, offset: 10 },
    view: { stroke: '#CCCCCC' },
  },
})
