/** The man pages: as --help has it, correct by two programs that format them, and installed by npm. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from 'commander'
import { beforeAll, expect, type TestContext, test } from 'vitest'
import { wholeProgram } from '#dist/src/cli/program.js'
import { need } from '../support/need.js'
import { projectOfTest, ROOT, runIn } from './support.js'

const FOLDER = join(ROOT, 'man')
const PAGES = readdirSync(FOLDER)
/** Wide enough that no line is broken. */
const WIDE = { MANWIDTH: '20000', LC_ALL: 'C.UTF-8' }

const has = (program: string): boolean => spawnSync(program, ['--version']).error === undefined
const hasMan = (ctx: TestContext): void => need(ctx, has('man'), 'there is no man: apt-get install man-db')

/** The page as man prints it into a pipe. */
function shown(args: readonly string[], env: Record<string, string> = WIDE): string {
  const { status, stdout, stderr } = runIn('/', 'man', args, env)
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  return stdout
}

/** As --help prints them, with nothing wrapped. */
function helpOf(command: Command): string {
  let text = ''
  const writeOut = (more: string): void => {
    text += more
  }
  command.configureOutput({ writeOut, getOutHelpWidth: () => 20_000, getOutHasColors: () => false })
  command.outputHelp()
  return text
}

const flat = (text: string): string => text.replace(/\s+/g, ' ')

let commands: readonly Command[]
beforeAll(async () => {
  commands = withCommands(await wholeProgram())
})

const withCommands = (command: Command): Command[] => [command, ...command.commands.flatMap(withCommands)]
const nameOf = (command: Command): string => (command.parent ? `${nameOf(command.parent)}-${command.name()}` : command.name())
const pageOf = (command: Command): string => `${nameOf(command)}.1`

test('there is a page for each command, and package.json names each', () => {
  expect([...PAGES].sort()).toEqual(commands.map(pageOf).sort())
  const { man, files } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
  expect([...man].sort()).toEqual(PAGES.map((page) => `./man/${page}`).sort())
  expect(files).toContain('man')
})

test('each page has every option, argument and sentence of --help', (ctx) => {
  hasMan(ctx)
  let options = 0
  for (const command of commands) {
    const page = flat(shown(['-l', join(FOLDER, pageOf(command))]))
    const help = command.createHelp()
    for (const option of help.visibleOptions(command)) {
      // '-n, --heaps <N>' stands there as '-n, --heaps N'.
      const flags = option.flags.replace(/<(.+?)(\.\.\.)?>/, (_, name, dots) => `${name}${dots ? ' ...' : ''}`)
      expect(page).toContain(`${flags} ${flat(help.optionDescription(option))}`)
      options++
    }
    for (const argument of command.registeredArguments) expect(page).toContain(flat(help.argumentDescription(argument)))
    for (const each of help.visibleCommands(command))
      expect(page).toContain(`${help.subcommandTerm(each)} ${flat(help.subcommandDescription(each))}`)
    // Words alone, because the page has labels as headings, and the exit statuses as a list.
    const words = (text: string) => text.toLowerCase().match(/\w{2,}/g) ?? []
    const there = new Set([...words(page), 'usage'])
    expect(words(helpOf(command)).filter((word) => !there.has(word))).toEqual([])
  }
  expect(options).toBeGreaterThan(100)
})

test('each page says what it exits with, what is in the environment, and where more stands', (ctx) => {
  hasMan(ctx)
  for (const command of commands) {
    const page = shown(['-l', join(FOLDER, pageOf(command))])
    const sections = [...page.matchAll(/^([A-Z][A-Z ]+)$/gm)].map(([, title]) => title)
    const order = ['NAME', 'SYNOPSIS', 'DESCRIPTION', 'OPTIONS', 'EXIT STATUS', 'JSON', 'ENVIRONMENT', 'EXAMPLES', 'SEE ALSO']
    const wanted = command.parent ? order : order.filter((title) => title !== 'JSON')
    expect({ page: pageOf(command), sections: sections.filter((title) => order.includes(title!)) }).toEqual({
      page: pageOf(command),
      sections: wanted,
    })
    expect(page).toMatch(/^ +0 +\S/m)
    for (const text of ['NODE_DEBUG=speadcast', 'SPEADCAST_VERBS_LIBRARY', 'docs/cli.md']) expect(page).toContain(text)
    for (const other of commands.filter((each) => each !== command)) expect(page).toContain(`${pageOf(other).slice(0, -2)}(1)`)
  }
})

test.for(PAGES)('%s gives man and mandoc nothing to warn of', (page, ctx) => {
  hasMan(ctx)
  need(ctx, has('mandoc'), 'there is no mandoc: apt-get install mandoc')
  const file = join(FOLDER, page)
  const env = { LC_ALL: 'C.UTF-8', MANWIDTH: '80' }
  const man = runIn('/', 'man', ['--warnings', '-E', 'UTF-8', '-l', '-Tutf8', file], env)
  expect({ status: man.status, stderr: man.stderr }).toEqual({ status: 0, stderr: '' })
  expect(runIn('/', 'mandoc', ['-T', 'lint', '-W', 'warning', file])).toEqual({ status: 0, stdout: '', stderr: '' })
})

test('the pages are ASCII, and the same when they are made again', () => {
  const again = projectOfTest({})
  const env = { TZ: 'Asia/Tokyo', SOURCE_DATE_EPOCH: '1', COLUMNS: '200', FORCE_COLOR: '1' }
  expect(runIn(ROOT, process.execPath, ['scripts/man-pages.mjs', again], env).status).toBe(0)
  const textsIn = (folder: string) => PAGES.map((page) => readFileSync(join(folder, page), 'utf8'))
  expect(textsIn(again)).toEqual(textsIn(FOLDER))
  for (const text of textsIn(FOLDER)) expect(text).toMatch(/^[\n -~]+$/)
})

test('escapes what roff would take for its own', (ctx) => {
  hasMan(ctx)
  // Today's help texts have a quote at the beginning of a value, a backslash, a dash and an ellipsis.
  const send = shown(['-l', join(FOLDER, 'speadcast-send.1')])
  for (const text of ["'<i2'", "'-'", '--heap-address-bits BITS', '8, 16 … 56', 'spead2’s']) expect(send).toContain(text)
})

test('npm install -g makes `man speadcast-send` show the page', (ctx) => {
  hasMan(ctx)
  const folder = projectOfTest({})
  const packed = runIn(ROOT, 'npm', ['pack', '--pack-destination', folder, '--loglevel=error'])
  expect(packed).toMatchObject({ status: 0 })
  const prefix = join(folder, 'prefix')
  mkdirSync(prefix)
  const tarball = readdirSync(folder).find((name) => name.endsWith('.tgz'))!
  const flags = ['--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error']
  const { status, stderr } = runIn(folder, 'npm', ['install', '-g', '--prefix', prefix, ...flags, join(folder, tarball)])
  const offline = /ENOTFOUND|ECONNREFUSED|ETIMEDOUT|EAI_AGAIN|ENETUNREACH/.test(stderr)
  need(ctx, !offline, `no package registry to install the dependencies from: ${stderr}`)
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  for (const page of PAGES) {
    const text = shown(['-M', join(prefix, 'share/man'), page.replace(/\.1$/, '')])
    expect(text).toContain(page.replace(/\.1$/, ' - '))
  }
  // The command that came along writes the script for bash.
  const script = runIn(folder, join(prefix, 'bin/speadcast'), ['completion', 'bash'])
  expect(script).toMatchObject({ status: 0, stderr: '' })
}, 120_000)
