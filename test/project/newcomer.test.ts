// How scripts/newcomer.mjs follows a page. The pages themselves are its business, and CI runs it.
import { mkdtempSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { codeBlocks, commandLines } from '../support/documents.js'
import { need } from '../support/need.js'
import { projectOfTest, ROOT } from './support.js'

interface Result {
  readonly command: string
  readonly ok?: boolean
  readonly why?: string
  readonly said?: string
}

const { Reader } = await import(join(ROOT, 'scripts/newcomer/reader.mjs'))
const { openLab } = await import(join(ROOT, 'scripts/newcomer/lab.mjs'))
const NO_LAB = { enter: [], why: 'none here' }
const fence = (info: string, ...lines: string[]) => ['```'.concat(info), ...lines, '```', ''].join('\n')

async function follow(
  text: string,
  { lab = NO_LAB, major = 20, marked = false, folder = projectOfTest({}) } = {},
): Promise<Result[]> {
  const clone = async (command: string) => ({ why: `clone: ${command}` })
  const documents = { codeBlocks, commandLines }
  const node = dirname(process.execPath)
  const project = mkdtempSync(join(folder, 'project-'))
  const reader = new Reader({
    lab,
    documents,
    project,
    node,
    major,
    clone,
    installed: { ok: true, seconds: 1 },
    tell: () => undefined,
  })
  await reader.follow({ name: 'docs/planted.md', text }, { marked })
  return reader.results
}

describe('the newcomer', () => {
  test('runs each line of a list, and says which failed', async () => {
    const results = await follow(
      fence('sh', '# a remark', 'true # well', "sh -c 'echo no; exit 3'", 'false | true', 'echo a \\', '  b'),
    )
    expect(results.map(({ command, ok }) => [command, ok])).toEqual([
      ['true', true],
      ["sh -c 'echo no; exit 3'", false],
      ['false | true', false],
      ['echo a b', true],
    ])
    expect(results[1]!.said).toMatch(/exit status 3\nno/)
  })

  test('runs a script as a whole, which ends at its first failure', async () => {
    const folder = projectOfTest({})
    const results = await follow(fence('sh run', 'false', `echo > ${folder}/reached`), { folder })
    expect(results.map(({ ok }) => ok)).toEqual([false])
    expect(() => readFileSync(join(folder, 'reached'))).toThrow(/ENOENT/)
  })

  test('runs what stands beside in another terminal, until it ends by itself', async () => {
    const beside = "node -e \"console.log('listening on'); require('fs').watch('.', (_, f) => f === 'seen' && process.exit(4))\""
    const results = await follow(`${fence('sh beside', beside)}${fence('sh run', 'sleep 0.3; echo > seen')}`)
    expect(results.map(({ ok, said }) => [ok, said?.split('\n')[0]])).toEqual([
      [false, 'exit status 4'],
      [true, 'exit status 0'],
    ])
  })

  test('writes a program with a name, and runs one without', async () => {
    const text = `${fence('js run example.mjs', 'process.exit(5)')}${fence('sh run', 'node example.mjs')}${fence('js run', 'await 0')}`
    const results = await follow(text, { major: 24 })
    expect(results.map(({ command, ok }) => [command.replace(/-\d+/, ''), ok])).toEqual([
      ['node example.mjs', false],
      ['node block.mjs', true],
    ])
  })

  test('needs no tsx from Node 24 on', async () => {
    const text = `${fence('ts run example.mts', 'const one: number = 1', 'console.log(one)')}${fence('sh run', 'npx tsx example.mts')}`
    const [result] = await follow(text, { major: 24 })
    expect(result!.command).toBe('node example.mts')
  })

  test('leaves out what cannot be run, with the reason, and what ran before', async () => {
    const lines = [
      'docker ps',
      'ip link add x type dummy',
      'true --interface eth0',
      'npm test',
      'npx true',
      'true',
      'npm install speadcast',
    ]
    const results = await follow(`${fence('sh', ...lines)}${fence('ts', 'no')}${fence('json', '{')}`)
    expect(results.map(({ why, ok }) => why ?? ok)).toEqual([
      expect.stringContaining('needs docker'),
      'needs root',
      'needs the network that the examples name (none here)',
      'clone: npm test',
      true,
      'ran before',
      true,
      expect.stringContaining('not marked to run'),
    ])
    expect(await follow(fence('sh', 'true', 'npx tsx no.mts'), { marked: true, major: 24 })).toMatchObject([
      { command: 'node no.mts' },
    ])
  })

  test('has a network with the interfaces of the examples, and no rights there', async (ctx) => {
    const lab = await openLab()
    ctx.onTestFinished(lab.close)
    need(ctx, !lab.why, lab.why)
    const results = await follow(
      fence(
        'sh run',
        'true; ip route get 10.0.0.5 | grep "dev eth0"; ip route get 239.1.1.1 | grep eth0',
        '! ip link set eth2 down',
      ),
      { lab },
    )
    expect(results.map(({ ok }) => ok)).toEqual([true])
    expect(results[0]!.said).toContain('Operation not permitted')
  })
})
