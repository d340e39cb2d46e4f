#!/usr/bin/env node
// npm run figures: draws docs/figures/ from the rows in docs/bench/. With --check it writes nothing and fails if an SVG is not what the
// rows give.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { drawPng, drawSvg, specifications } from './bench/figures.mjs'
import { at } from './lib/process.mjs'

const { values } = parseArgs({
  options: {
    rows: { type: 'string', default: at('docs/bench') },
    out: { type: 'string', default: at('docs/figures') },
    check: { type: 'boolean', default: false },
  },
})
const { rows, out, check } = values
const { specs, missing } = specifications(rows)
for (const file of missing) console.log(`no ${file}: its figure is left out`)

const stale = []
const wanted = new Set()
for (const [name, spec] of Object.entries(specs)) {
  const svg = await drawSvg(spec)
  const path = join(out, `${name}.svg`)
  wanted.add(`${name}.svg`).add(`${name}.png`)
  if (existsSync(path) && readFileSync(path, 'utf8') === svg && existsSync(join(out, `${name}.png`))) continue
  if (check) stale.push(`${name}.svg`)
  else {
    mkdirSync(out, { recursive: true })
    writeFileSync(path, svg)
    writeFileSync(join(out, `${name}.png`), drawPng(svg))
    console.log(`drew ${name}.svg and .png`)
  }
}
const left = existsSync(out) ? readdirSync(out).filter((file) => !wanted.has(file)) : []
for (const file of left) {
  if (check) stale.push(file)
  else {
    rmSync(join(out, file))
    console.log(`removed ${file}, which no rows give`)
  }
}
if (stale.length > 0) {
  console.error(`not what the rows in ${rows} give: ${stale.join(', ')}; run npm run figures`)
  process.exitCode = 1
}
