// Lists the figures and the rows that each is made from. SVG comes from Vega, PNG from the SVG; neither needs a browser or cairo.
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { Resvg } from '@resvg/resvg-js'
import * as vega from 'vega'
import { compile } from 'vega-lite'
import { busyFigure, evenPacketsFigure, inFlightFigure, rateFigures, verbsFigure } from './figure-specs.mjs'
import { readRows } from './rows.mjs'

const one = (name, spec) => (spec ? { [name]: spec } : {})

/** `make(rows)` → name → specification. */
const SOURCES = [
  { file: 'udp-blackhole.jsonl', make: rateFigures },
  { file: 'udp-blackhole-gso1.jsonl', make: rateFigures },
  { file: 'udp-veth.jsonl', make: rateFigures },
  { file: 'verbs.jsonl', make: (rows) => one('verbs-cpu', verbsFigure(rows)) },
  { file: 'even-packets.jsonl', make: (rows) => one('even-packets', evenPacketsFigure(rows)) },
  { file: 'in-flight.jsonl', make: (rows) => one('in-flight', inFlightFigure(rows)) },
  { file: 'busy.jsonl', make: (rows) => one('busy', busyFigure(rows)) },
]

/** The specifications of all figures that the rows in a folder give, and the names of missing files. */
export function specifications(folder) {
  const specs = {}
  const missing = []
  for (const { file, make } of SOURCES) {
    const rows = readRows(join(folder, file))
    if (rows.length === 0) missing.push(file)
    else Object.assign(specs, make(rows))
  }
  return { specs, missing }
}

const require = createRequire(import.meta.url)
const fontFiles = ['400Regular', '600SemiBold'].map((name) =>
  require.resolve(`@expo-google-fonts/open-sans/${name}/OpenSans_${name}.ttf`),
)
const font = { loadSystemFonts: false, fontFiles, defaultFontFamily: 'Open Sans' }

const widths = new Map()
/** Vega, which has no canvas here, would guess how wide a text is, by half too much. */
function textWidth({ fontSize = 11, fontWeight = 400 }, text) {
  const line = String(text ?? '').replace(/[&<>]/g, (sign) => `&#${sign.charCodeAt(0)};`)
  const key = `${fontWeight} ${line}`
  if (!widths.has(key)) {
    const drawn = new Resvg(
      `<svg xmlns="http://www.w3.org/2000/svg"><text y="100" font-size="100" font-weight="${fontWeight}">${line}</text></svg>`,
      { font },
    )
    widths.set(key, (drawn.getBBox()?.width ?? 0) / 100)
  }
  return widths.get(key) * fontSize
}
vega.textMetrics.width = (item, text) => textWidth(item, text)

/** Coordinates to a hundredth of a pixel: engines differ in the last digits of logarithms. */
const rounded = (svg) => svg.replace(/-?\d+\.\d{3,}/g, (number) => String(Number(Number(number).toFixed(2))))

export async function drawSvg(spec) {
  const view = new vega.View(vega.parse(compile(spec).spec), { renderer: 'none', logLevel: vega.Warn })
  try {
    const svg = rounded(await view.toSVG())
    // A machine without the font takes one of its own that is like it.
    return `${svg.replaceAll('font-family="Open Sans"', 'font-family="Open Sans, Helvetica Neue, Arial, sans-serif"')}\n`
  } finally {
    view.finalize()
  }
}

/** Two pixels for one, with the font that comes along: the same on every machine. */
export const drawPng = (svg) => new Resvg(svg, { background: '#FFFFFF', fitTo: { mode: 'zoom', value: 2 }, font }).render().asPng()
