#!/usr/bin/env node
// Is a newcomer to speadcast: clones this tree, builds and packs the clone, installs the package into an empty folder, and follows README
// and every page of docs/ there, block by block. Failures are shown whole; blocks that are left out, with the reason.
//   npm run newcomer                  what is committed, as it is in a fresh clone
//   npm run newcomer -- --tree        this tree as it is, without a clone: quicker while a page is being written
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join, relative } from 'node:path'
import { parseArgs } from 'node:util'
import { tsImport } from 'tsx/esm/api'
import { $, ProcessOutput } from 'zx'
import { at, read, say } from './lib/process.mjs'
import { openLab } from './newcomer/lab.mjs'
import { plainEnv, Reader } from './newcomer/reader.mjs'

const USAGE = `usage: npm run newcomer -- [options] [PAGE...]

  PAGE...    pages to follow, such as README.md docs/options.md (default: all)
  --tree     pack this tree as it is, instead of a fresh clone of what is committed
  --keep     leave the folders, and say where they are

Exit status: 0 all that was run worked; 1 something did not; 2 bad usage.
`
/** A handful of the tests, which a fresh clone must be able to run. */
const TESTS = [
  'test/spead/item.test.ts',
  'test/batch/views.test.ts',
  'test/stream/order.test.ts',
  'test/project/errors-page.test.ts',
]
const NODE_24 = at('.cache/node24/bin')
/** The Python that has spead2. */
const PYTHON = at('.cache/venv/bin/python')

const began = performance.now()
const elapsed = () => ((performance.now() - began) / 1000).toFixed(0)
const step = (text) => say(`${elapsed().padStart(3)} s  ${text}`)

function options() {
  try {
    const flag = { type: 'boolean', default: false }
    return parseArgs({ allowPositionals: true, options: { tree: flag, keep: flag, help: { ...flag, short: 'h' } } })
  } catch (error) {
    process.stderr.write(`newcomer: ${error.message}\n\n${USAGE}`)
    process.exit(2)
  }
}

const shell = (cwd, env = plainEnv()) => $({ cwd, env, quiet: true, timeout: '240s', stdio: ['ignore', 'pipe', 'pipe'] })

/** Clones what is committed, and builds it as README of the source tree says. */
async function clone(folder) {
  step('git clone')
  // The tree may belong to another user, as where CI calls sudo.
  await shell(folder)`git -c safe.directory=* clone --quiet --no-hardlinks ${at()} source`
  step('npm run build')
  await shell(join(folder, 'source'))`npm run build`
  return join(folder, 'source')
}

/** Runs what a page says of the source tree, in the clone: of the tests a handful, of the demo a part. */
const inClone = (source, cloned) => async (command) => {
  if (!cloned) return { why: 'for a fresh clone, which --tree does not make' }
  const lesser = { 'npm test': ['npm', 'test', '--', ...TESTS], 'npm run demo': ['npm', 'run', 'demo', '--', '--bytes', '64MiB'] }
  const argv = lesser[command.replace(/\s+#.*/, '')]
  if (!argv) return { why: 'CI has a stage of its own for it' }
  const start = performance.now()
  const env = { ...plainEnv(), ...(existsSync(PYTHON) && { SPEADCAST_TEST_PYTHON: PYTHON }) }
  const { exitCode, stdall } = await shell(source, env)({ nothrow: true })`${argv}`
  return { ok: exitCode === 0, seconds: (performance.now() - start) / 1000, said: stdall }
}

/** Follows README's first block in an empty folder, with the tarball in the registry's place. */
async function install(folder, tarball, node) {
  mkdirSync(folder)
  const start = performance.now()
  const { stdall } = await shell(folder, plainEnv(node))`npm install --prefer-offline ${tarball}`
  const seconds = (performance.now() - start) / 1000
  step(`npm said:\n${stdall.trim()}`)
  // npx would ask whether to install it.
  await shell(folder, plainEnv(node))`npm install --prefer-offline --loglevel=error tsx@${tsxVersion()}`
  return { ok: true, seconds }
}

const tsxVersion = () => JSON.parse(read(at('node_modules/tsx/package.json'))).version

function lineOf({ at: where, command, ok, why, seconds, said }) {
  if (why) return `left out  ${where}  ${command}: ${why}`
  return `${ok ? 'ran' : 'FAILED'}  ${where}  ${command}  ${seconds.toFixed(1)} s${ok ? '' : `\n${said}`}`
}

function table(pages, results) {
  const rows = pages.map(({ name }) => {
    const mine = results.filter(({ page }) => page === name)
    // Each once, though followed on two Nodes.
    const count = (of) => new Set(mine.filter(of).map((result) => `${result.at} ${result.command}`)).size
    const whys = new Set(mine.length > 0 ? mine.flatMap(({ why }) => why ?? []) : ['it has no program and no command'])
    return [name, count(({ ok }) => ok), count(({ ok }) => ok === false), count(({ why }) => why), [...whys].join('; ')]
  })
  const all = [['page', 'ran', 'failed', 'left out', 'why'], ...rows].map((row) => row.map(String))
  const widths = [0, 1, 2, 3].map((i) => Math.max(...all.map((row) => row[i].length)))
  const padded = ([page, ...cells]) => [page.padEnd(widths[0]), ...cells.map((cell, i) => cell.padStart(widths[i + 1] ?? 0))]
  return all.map((row) => padded(row).join('  ')).join('\n')
}

/** Follows pages as one who has this Node: all of them, or only what they mark to run. */
async function followOn(node, { work, tarball, pages, marked, ...common }) {
  const version = `${await shell(work, plainEnv(node))`node --version`}`.trim()
  step(`Node ${version}: npm install of ${basename(tarball)}`)
  const project = join(work, `reader-${version}`)
  const installed = await install(project, tarball, node)
  step(`Node ${version}: the pages`)
  const major = Number(/\d+/.exec(version)[0])
  const reader = new Reader({ ...common, project, installed, node, major, tell: (result) => console.log(lineOf(result)) })
  for (const page of pages) await reader.follow(page, { marked })
  return reader.results
}

async function newcomer(work, lab, { values, positionals }) {
  const source = values.tree ? at() : await clone(work)
  const documents = await tsImport(join(source, 'test/support/documents.ts'), import.meta.url)
  const known = documents.pages()
  const unknown = positionals.filter((name) => !known.some((page) => page.name === name))
  if (unknown.length > 0) {
    say(`there is no page ${unknown.join(', ')}; there are ${known.map(({ name }) => name).join(', ')}`)
    return 2
  }
  const pages = known.filter(({ name }) => positionals.length === 0 || positionals.includes(name))
  step('npm pack')
  await shell(source)`npm pack --pack-destination ${work}`
  const tarball = join(
    work,
    readdirSync(work).find((name) => name.endsWith('.tgz')),
  )
  const common = { work, python: PYTHON, lab, tarball, documents, pages, clone: inClone(source, !values.tree) }
  const results = await followOn(dirname(process.execPath), { ...common, marked: false })
  const lacks = lab.why ? [`without a network of its own: ${lab.why}`] : []
  if (existsSync(join(NODE_24, 'node'))) results.push(...(await followOn(NODE_24, { ...common, marked: true })))
  else lacks.push(`not followed on Node 24, because there is none in ${relative(at(), NODE_24)}`)
  console.log(`\n${[table(pages, results), ...lacks].join('\n')}`)
  // CI may leave nothing out for want of a tool.
  return results.some(({ ok }) => ok === false) || (process.env.CI === 'true' && lacks.length > 0) ? 1 : 0
}

async function main(given) {
  const work = mkdtempSync(join(tmpdir(), 'speadcast-newcomer-'))
  const lab = await openLab()
  try {
    return await newcomer(work, lab, given)
  } catch (error) {
    if (!(error instanceof ProcessOutput)) throw error
    say(`the newcomer could not get that far:\n${error.stdall}`)
    return 1
  } finally {
    lab.close()
    if (given.values.keep) say(`left ${work}`)
    else rmSync(work, { recursive: true, force: true, maxRetries: 3 })
  }
}

const given = options()
if (given.values.help) process.stdout.write(USAGE)
else process.exitCode = await main(given)
