/**
 * Holds the code blocks, options and links of README.md and docs/ against what there is.
 *
 * | fence          | held against                                                                                       |
 * |----------------|----------------------------------------------------------------------------------------------------|
 * | `ts`           | the compiler, strict, with the package's own types                                                 |
 * | `ts run`       | the same, then run                                                                                 |
 * | `ts from FILE` | that file, relative to docs/, of which it is a piece                                               |
 * | `sh`           | every `speadcast` in it is parsed by its command; every `npm run` names a script                   |
 * | `sh run`       | the same, then run, but for docker's (test/docker runs those) and README's (scripts/newcomer.mjs)   |
 * | `sh beside`    | as `sh`; scripts/newcomer.mjs runs it in another terminal                                           |
 * | `json`         | the parser                                                                                         |
 * | those in PLAIN | nothing, so they may not use speadcast                                                              |
 */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Command } from 'commander'
import { afterAll, describe, expect, test } from 'vitest'
import { benchCommand } from '#dist/src/cli/bench/command.js'
import { withIndex } from '#dist/src/cli/common/index-words.js'
import { completionCommand } from '#dist/src/cli/completion/command.js'
import { demoCommand } from '#dist/src/cli/demo/command.js'
import { devicesCommand } from '#dist/src/cli/devices.js'
import { doctorCommand } from '#dist/src/cli/doctor.js'
import { explainCommand } from '#dist/src/cli/explain.js'
import { wholeProgram } from '#dist/src/cli/program.js'
import { recvCommand } from '#dist/src/cli/recv/command.js'
import { sendCommand } from '#dist/src/cli/send/command.js'
import type { SendFlags } from '#dist/src/cli/send/flags.js'
import { checkFlags, streamOptions } from '#dist/src/cli/send/options.js'
import { openStream } from '#dist/src/index.js'
import { parseEndpoints } from '#dist/src/net/endpoint.js'
import { optionNames, parseStreamConfig } from '#dist/src/stream/config.js'
import {
  brokenLinks,
  type CodeBlock,
  codeBlocks,
  linkedFiles,
  type Page,
  page,
  pages,
  shellCommands,
} from '../support/documents.js'
import { need } from '../support/need.js'
import { project, ROOT, runIn } from './support.js'

const TYPESCRIPT = ['ts', 'js']
const CHECKED = [...TYPESCRIPT, 'sh', 'json']
const PLAIN = ['', 'text', 'console', 'c', 'python', 'yaml', 'mermaid']

const ALL = pages()
const BLOCKS = ALL.flatMap(codeBlocks)
const planted = (language: string, code: string, runs = false): CodeBlock => ({ at: 'planted:1', language, runs, code })

/** A project that has this package installed, and where `speadcast` is a command. */
const { directory, remove } = project({
  'package.json': JSON.stringify({ name: 'reader', private: true, type: 'module' }),
  'tsconfig.json': JSON.stringify({
    extends: join(ROOT, 'tsconfig.json'),
    compilerOptions: {
      noUncheckedIndexedAccess: true,
      rootDir: '.',
      outDir: 'out',
      noEmitOnError: false,
      declaration: false,
      typeRoots: [join(ROOT, 'node_modules/@types')],
    },
    include: ['*.ts'],
  }),
})
mkdirSync(join(directory, 'bin'))
writeFileSync(join(directory, 'bin/speadcast'), `#!/bin/sh\nexec '${process.execPath}' '${ROOT}lib/cli.js' "$@"\n`, {
  mode: 0o755,
})
mkdirSync(join(directory, 'node_modules'))
symlinkSync(ROOT, join(directory, 'node_modules/speadcast'))
afterAll(remove)

const fileOf = ({ at }: CodeBlock): string => at.replace(/\W/g, '-')

/** The compiler's complaints about the blocks, each a module of its own; its output is left in `out`. */
function compile(blocks: readonly CodeBlock[]): string {
  const files = blocks.map((block) => `${fileOf(block)}.ts`)
  for (const [i, { code }] of blocks.entries()) writeFileSync(join(directory, files[i]!), `${code}\nexport {}\n`)
  const { stdout, stderr } = runIn(directory, process.execPath, [join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', '.'])
  for (const file of files) rmSync(join(directory, file))
  return stdout + stderr
}

const run = (block: CodeBlock) => {
  const folder = mkdtempSync(join(directory, 'run-'))
  if (block.language === 'sh') {
    const PATH = `${join(directory, 'bin')}:${process.env.PATH}`
    return runIn(folder, 'sh', ['-e', '-c', block.code], { PATH })
  }
  return runIn(folder, process.execPath, [join(directory, 'out', `${fileOf(block)}.js`)])
}

const COMMANDS: Readonly<Record<string, () => Command>> = {
  send: sendCommand,
  recv: recvCommand,
  bench: benchCommand,
  devices: devicesCommand,
  doctor: doctorCommand,
  explain: explainCommand,
  demo: demoCommand,
  completion: () => completionCommand(wholeProgram),
}
const SCRIPTS = JSON.parse(page('package.json').text).scripts as Record<string, string>

/** The arguments of the `speadcast` that a command line calls, by itself or behind others (npx, setpriv, docker run). */
function callOf(words: readonly string[]): readonly string[] | undefined {
  const at = words.findIndex((word) => word === 'speadcast' || word === 'speadcast-rdma')
  if (at < 0) return undefined
  const direct = at === 0 || words[at - 1] === 'npx'
  return direct || Object.hasOwn(COMMANDS, words[at + 1] ?? '') ? words.slice(at + 1) : undefined
}

/** Why a command would not take these arguments. */
async function refusal([name = '', ...args]: readonly string[]): Promise<string | undefined> {
  if (!Object.hasOwn(COMMANDS, name)) return `there is no command '${name}'`
  let said = ''
  const command = COMMANDS[name]!()
    .exitOverride()
    .configureOutput({
      writeErr: (text) => {
        said += text
      },
      writeOut: () => undefined,
    })
    .action((endpoints: string[], flags: SendFlags) => {
      // An agent is a host, with a port or without; a capture needs no endpoint.
      const all = !('agent' in flags) && !(name === 'recv' && flags.pcap !== undefined)
      if (Array.isArray(endpoints) && all) parseEndpoints(endpoints)
      if (name !== 'send') return
      checkFlags(flags, endpoints)
      parseStreamConfig(streamOptions(endpoints, flags))
    })
  for (const own of command.commands) own.copyInheritedSettings(command).action(() => undefined)
  try {
    await command.parseAsync(name === 'send' ? withIndex(args, {}) : args, { from: 'user' })
    return undefined
  } catch (error) {
    return said || (error as Error).message
  }
}

async function shellProblems({ at, code }: CodeBlock): Promise<string[]> {
  const problems: string[] = []
  for (const words of shellCommands(code)) {
    const call = callOf(words)
    const refused = call && (await refusal(call))
    if (refused) problems.push(`${at}: speadcast ${call.join(' ')}: ${refused}`)
    if (words[0] === 'npm' && words[1] === 'run' && !Object.hasOwn(SCRIPTS, words[2] ?? ''))
      problems.push(`${at}: there is no script '${words[2]}'`)
  }
  return problems
}

const unchecked = ({ language, code }: CodeBlock): boolean =>
  !CHECKED.includes(language) && (!PLAIN.includes(language) || /^\s*(npx )?speadcast |import .*'speadcast/m.test(code))

const isNoPiece = ({ from, code }: CodeBlock): boolean => !`\n${page(join('docs', from!)).text}`.includes(`\n${code}`)

function jsonProblems({ at, code }: CodeBlock): string[] {
  try {
    JSON.parse(code)
    return []
  } catch (error) {
    return [`${at}: ${(error as Error).message}`]
  }
}

const only = (...languages: string[]) => BLOCKS.filter(({ language }) => languages.includes(language))

describe('code blocks', () => {
  const typescript = only(...TYPESCRIPT).filter(({ from }) => from === undefined)
  let said: string | undefined
  const compiled = () => {
    said ??= compile(typescript)
    return said
  }

  test('are held against something where they use speadcast', () => {
    expect(BLOCKS.filter(unchecked).map(({ at }) => at)).toEqual([])
  })

  test('of TypeScript compile', { timeout: 120_000 }, () => {
    expect(typescript.length).toBeGreaterThan(5)
    expect(compiled()).toBe('')
  })

  test('of examples are pieces of them', () => {
    const pieces = BLOCKS.filter(({ from }) => from !== undefined)
    expect(pieces.length).toBeGreaterThan(5)
    expect(pieces.filter(isNoPiece).map(({ at }) => at)).toEqual([])
  })

  test('of shell call speadcast as it can be called', async () => {
    const calls = only('sh').flatMap(({ code }) => shellCommands(code).flatMap((words) => callOf(words) ?? []))
    expect(calls.length).toBeGreaterThan(20)
    expect((await Promise.all(only('sh').map(shellProblems))).flat()).toEqual([])
  })

  test('of JSON parse', () => {
    expect(only('json').length).toBeGreaterThan(0)
    expect(only('json').flatMap(jsonProblems)).toEqual([])
  })

  // README's example runs in test/project/pack.test.ts too, with the package as it is packed.
  const elsewhere = ({ at, language }: CodeBlock) => at.startsWith('docker/') || (language === 'sh' && at.startsWith('README.md'))
  const runnable = [...typescript, ...only('sh')].filter((block) => block.runs && !elsewhere(block))
  test.for(runnable.map((block) => [block.at, block] as const))('%s runs', { timeout: 120_000 }, ([, block], ctx) => {
    need(ctx, process.platform === 'linux', 'the pages are about Linux')
    if (block.language !== 'sh') compiled()
    const { status, stdout, stderr } = run(block)
    expect(status, stdout + stderr).toBe(0)
  })
})

describe('a planted mistake is found', () => {
  test('in the name of a language', () => {
    const blocks = [
      planted('bash', 'true'),
      planted('text', 'speadcast demo'),
      planted('', "import 'speadcast'"),
      planted('text', 'ffi ← net'),
    ]
    expect(blocks.map(unchecked)).toEqual([true, true, true, false])
  })

  test('in TypeScript', { timeout: 120_000 }, () => {
    const said = compile([planted('ts', "import { openStream } from 'speadcast'\nawait openStream({ to: 7148 })")])
    expect(said).toMatch(/^planted-1\.ts\(2,\d+\): error TS2322/)
  })

  test('in a program that compiles and fails', { timeout: 120_000 }, () => {
    const block = planted('ts', "import { parseRate } from 'speadcast'\nparseRate('fast')", true)
    expect(compile([block])).toBe('')
    expect(run(block)).toMatchObject({ status: 1, stderr: expect.stringContaining("rate 'fast' has no number, and no known unit") })
  })

  test.for([
    ['speadcast sent 10.0.0.5:7148', "there is no command 'sent'"],
    ['npx speadcast send 10.0.0.5:7148 --ratio 2', "unknown option '--ratio'"],
    ['capture | speadcast send 10.0.0.5:7148 \\\n  --split evenly', 'is invalid'],
    ['speadcast send 10.0.0.5:7148 --rate 10GB # too fast', 'no known unit'],
    ['true; setpriv --no-new-privs speadcast send 10.0.0.5:7148 --rate-method kernel', 'needs --backend udp'],
    ['docker run --rm speadcast recv 10.0.0.5', 'endpoint'],
    ['npm run tests', "there is no script 'tests'"],
  ])('in the shell: %s', async ([code, problem]) => {
    expect(await shellProblems(planted('sh', code!))).toEqual([expect.stringContaining(problem!)])
  })

  test('in a shell program', () => {
    expect(run(planted('sh', 'speadcast send 10.0.0.5:7148 --pcap no/folder.pcap\ntrue', true))).toMatchObject({ status: 1 })
  })

  test('in a piece of an example', () => {
    const piece = { ...planted('ts', 'const heaps = Number(values.heaps)\n'), from: 'examples/tutorial-1-send.ts' }
    expect(isNoPiece(piece)).toBe(false)
    expect(isNoPiece({ ...piece, code: 'const heaps = Number(values.heap)\n' })).toBe(true)
  })

  test('in JSON', () => {
    expect(jsonProblems(planted('json', '{ "to": 7148, }'))).toHaveLength(1)
  })

  test('in a link', () => {
    expect(
      brokenLinks({ name: 'README.md', text: '[a](docs/no.md) [b](docs/cli.md#no) [c](docs/cli.md#send) [d](https://a.b/c)' }),
    ).toEqual(['README.md (docs/no.md)', 'README.md (docs/cli.md#no)'])
  })
})

describe('options', () => {
  const section = (name: string, title: string): string =>
    page(name)
      .text.split(/^## /m)
      .find((text) => text.startsWith(title)) ?? ''
  const inTable = (text: string): string[] =>
    text.match(/^\| `.*$/gm)!.flatMap((row) => [...row.split('|')[1]!.matchAll(/`(\w+)`/g)].map(([, name]) => name!))

  test('the table has every option of openStream and no other', async () => {
    const error = await openStream({ to: '127.0.0.1:7148', noSuchOption: 1 } as never).catch((reason: Error) => reason)
    const known = (error as Error).message.match(/known ones: (.*)$/)![1]!.split(', ')
    expect(inTable(section('docs/options.md', 'Options of `openStream`')).sort()).toEqual(known.sort())
  })

  test('the table has every option of ibverbs and no other', () => {
    expect(inTable(section('docs/ibverbs.md', 'Options')).sort()).toEqual(optionNames('ibverbs').sort())
  })
})

describe('pages', () => {
  test('relative links lead to files and headings', () => {
    expect(ALL.flatMap(brokenLinks)).toEqual([])
  })

  const packed = new Set<string>(
    JSON.parse(runIn(ROOT, 'npm', ['pack', '--dry-run', '--json', '--ignore-scripts']).stdout)[0].files.map(
      ({ path }: { path: string }) => path,
    ),
  )
  const linksOutOfPackage = ({ name, text }: Page): string[] =>
    linkedFiles({ name, text }).filter((file) => !packed.has(file) && ![...packed].some((other) => other.startsWith(`${file}/`)))

  test('README links to nothing that the package does not hold', () => {
    expect(linkedFiles(page('README.md'))).toContain('docs/cli.md')
    expect(linksOutOfPackage(page('README.md'))).toEqual([])
  })

  test('other pages of the package that link out of it say that the source tree has it', () => {
    const held = [...ALL, page('CHANGELOG.md')].filter(({ name }) => packed.has(name))
    expect(held.map(({ name }) => name)).toContain('docs/testing.md')
    const says = ({ text }: Page) => text.replace(/\s+/g, ' ').includes('the npm package does not hold')
    const silent = held.filter((it) => linksOutOfPackage(it).length > 0 && !says(it))
    expect(silent.map(({ name }) => name)).toEqual([])
  })

  test('README is short, and leads to every page', () => {
    const { text } = page('README.md')
    expect(text.split('\n').length).toBeLessThanOrEqual(130)
    const apart = ALL.filter(({ name }) => /^docs\/[\w-]+\.md$/.test(name) && !text.includes(`](${name})`))
    expect(apart.map(({ name }) => name)).toEqual([])
  })

  test.for(
    [
      'tutorial',
      'cli',
      'options',
      'memory',
      'outcomes',
      'errors',
      'diagnosing',
      'ibverbs',
      'rdma-ud',
      'io-uring',
      'containers',
      'coming-from-spead2',
      'testing',
      'performance',
      'placement',
      'platforms',
      'bundlers',
      'receiving',
    ].map((name) => `docs/${name}.md`),
  )('%s begins with whom it is for', (name) => {
    expect(page(name).text).toMatch(/^# .*\n\nThis page is for /)
  })
})
