// The examples of docs/examples, in a folder where speadcast is installed: each compiles, runs by its command, and prints what it says.
import { cpSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { page } from '../support/documents.js'
import { exampleFiles, main, parseExample, pattern, readExample, runSteps, tableRow } from '../support/examples.js'
import { need } from '../support/need.js'
import { plainEnv, project, ROOT, runIn } from './support.js'

/** Node runs TypeScript by itself from 22.18 on; older ones take tsx. */
const STRIPS_TYPES = Boolean((process.features as { typescript?: unknown }).typescript)

const { directory, remove } = project({
  'package.json': JSON.stringify({ name: 'learner', private: true, type: 'module' }),
  'tsconfig.json': JSON.stringify({
    extends: join(ROOT, 'tsconfig.json'),
    compilerOptions: {
      rootDir: '.',
      noEmit: true,
      allowJs: true,
      checkJs: true,
      // Node strips types; it makes no code of them.
      erasableSyntaxOnly: true,
      typeRoots: [join(ROOT, 'node_modules/@types')],
    },
    include: ['docs/examples/*', 'planted.ts'],
  }),
})
cpSync(join(ROOT, 'docs/examples'), join(directory, 'docs/examples'), { recursive: true })
const link = (from: string, to: string): void => {
  mkdirSync(dirname(join(directory, from)), { recursive: true })
  symlinkSync(to, join(directory, from))
}
link('node_modules/speadcast', ROOT)
link('node_modules/tsx', join(ROOT, 'node_modules/tsx'))
link('node_modules/.bin/tsx', join(ROOT, 'node_modules/.bin/tsx'))
link('node_modules/.bin/speadcast', join(ROOT, 'lib/cli.js'))
afterAll(remove)

const compile = (): string => {
  const { stdout, stderr } = runIn(directory, process.execPath, [join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', '.'])
  return stdout + stderr
}
/** Without npx's word, now and then, that there is a newer npm. */
const run = (steps: Parameters<typeof runSteps>[0]) => runSteps(steps, directory, plainEnv({ npm_config_update_notifier: 'false' }))
const files = exampleFiles()

test('there are examples, and all of them compile', { timeout: 120_000 }, () => {
  expect(files).toContain('tutorial-1-send.ts')
  expect(compile()).toBe('')
})

test.for(files)('%s begins with what it shows, its command, and what it prints', (file) => {
  const example = readExample(file)
  expect(example.summary).toMatch(/^[A-Z].*\.$/)
  expect(main(example)?.prints.at(-1)).toMatch(/[^…]/)
})

test.for(files)('%s has its row in the table', (file) => {
  expect(page('docs/examples/README.md').text.split('\n')).toContain(tableRow(readExample(file)))
})

// By the command as it stands there; where node strips types, by node itself, which README.md says is the other way.
test.for(files)('%s runs, and prints what it says', { timeout: 60_000 }, async (file, ctx) => {
  need(ctx, process.platform === 'linux', 'the examples are run on Linux')
  const { steps } = readExample(file)
  const typed = steps.map((step) => (STRIPS_TYPES ? { ...step, command: step.command.replace(/^npx tsx /, 'node ') } : step))
  for (const [i, { command, status, printed }] of (await run(typed)).entries()) {
    expect({ command, status, printed }).toEqual({ command, status: 0, printed: expect.stringMatching(pattern(steps[i]!.prints)) })
  }
})

describe('a planted mistake is found', () => {
  const header = '/**\n * Adds. More.\n *\n *     $ echo a; sleep 9 &\n *     a\n *     $ echo 12 MB/s\n *     … MB/s\n */\n'

  test('in a header', () => {
    expect(parseExample('a.ts', header)).toEqual({
      file: 'a.ts',
      summary: 'Adds.',
      steps: [
        { command: 'echo a; sleep 9', beside: true, prints: ['a'] },
        { command: 'echo 12 MB/s', beside: false, prints: ['… MB/s'] },
      ],
    })
    expect(parseExample('a.ts', '// Adds.\n')).toMatchObject({ summary: '', steps: [] })
  })

  test('in a type', { timeout: 120_000 }, () => {
    writeFileSync(join(directory, 'planted.ts'), "import { openStream } from 'speadcast'\nawait openStream({ to: 7148 })\n")
    expect(compile()).toMatch(/^planted\.ts\(2,\d+\): error TS2322/)
  })

  test('in what is printed', () => {
    expect('12 MB/s\n').toMatch(pattern(['… MB/s']))
    expect('a\nb\nc\n').toMatch(pattern(['a', '…', 'c']))
    expect('a\nc\n').toMatch(pattern(['a', '…', 'c']))
    for (const printed of ['MB/s\n', '12 MB/s', '12 MB/s\n13\n', 'x\n12 MB/s\n']) expect(printed).not.toMatch(pattern(['… MB/s']))
  })

  test('in a program that fails', async () => {
    expect(await run([{ command: 'echo a; echo b >&2; exit 3', beside: false, prints: ['a'] }])).toEqual([
      { command: 'echo a; echo b >&2; exit 3', status: 3, printed: 'a\nb\n' },
    ])
  })

  test('in a program beside another', async () => {
    const first = { command: 'mkfifo fifo; echo ready; cat fifo', beside: true, prints: ['ready', 'said'] }
    const second = { command: 'echo said >fifo; echo too much >&2', beside: false, prints: [] }
    expect(await run([first, second])).toEqual([
      { command: first.command, status: 0, printed: 'ready\nsaid\n' },
      { command: second.command, status: 0, printed: 'too much\n' },
    ])
  })
})
