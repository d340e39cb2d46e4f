/** `speadcast explain`, and the lines that lead to it. */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { run } from '../support/cli.js'
import { page } from '../support/documents.js'

const REPOSITORY = (JSON.parse(page('package.json').text).homepage as string).replace('#readme', '')

test.for([
  ['ERR_SPEADCAST_CONFIG', 'ERR_SPEADCAST_CONFIG'],
  ['err_speadcast_heap_cnt', 'ERR_SPEADCAST_HEAP_CNT'],
  ['heap-cnt', 'ERR_SPEADCAST_HEAP_CNT'],
  ['overwrite', 'SPEADCAST_OVERWRITE'],
  ['ehostunreach', 'EHOSTUNREACH'],
])('%s: meaning, causes, remedy, example and where it stands', async ([asked, name]) => {
  const { code, stdout, stderr } = await run(['explain', asked!])
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  const lines = stdout.trimEnd().split('\n')
  expect(lines[0]).toBe(name)
  for (const part of ['Causes', 'Remedy', 'Example']) expect(stdout).toContain(`\n**${part}`)
  expect(stdout).not.toMatch(/\n#/)
  expect(readFileSync(lines.at(-2)!, 'utf8')).toContain(`### ${name}\n`)
  expect(lines.at(-1)).toBe(`${REPOSITORY}/blob/main/docs/errors.md#${name!.toLowerCase()}`)
})

test('without a code all are listed, with --json as JSON', async () => {
  const { stdout } = await run(['explain'])
  expect(stdout).toContain('ERR_SPEADCAST_SUBSTREAM\n    A substream index is not below the number of endpoints.\n')
  const { codes } = JSON.parse((await run(['explain', '--json'])).stdout)
  expect(codes).toContainEqual({ name: 'ENODEV', meaning: 'The interface is gone.' })
  const one = JSON.parse((await run(['explain', 'enodev', '--json'])).stdout)
  expect(one).toMatchObject({
    name: 'ENODEV',
    text: expect.stringContaining('**Remedy:**'),
    file: expect.stringMatching(/errors\.md$/),
  })
})

test.for(['nothing', '', '../../package.json', '\x1b[2J', '__proto__'])('%o is no code', async (asked) => {
  const { code, stdout, stderr } = await run(['explain', asked])
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
  expect(stderr).toMatch(
    /^speadcast explain: there is no code '.*'; (did you mean .*\? )?`speadcast explain` lists all there are \(.*\)\n$/,
  )
  expect(stderr).not.toContain('\x1b')
})

test('errors and warnings of other commands lead to it', async () => {
  const bad = await run(['send', '127.0.0.1:7148', '--interface', 'no-such0'])
  expect(bad.stderr).toMatch(
    /^speadcast send: no interface is named 'no-such0'; .* \(speadcast explain ERR_SPEADCAST_INTERFACE\)\n$/,
  )
  const odd = await run(['send', '0.0.0.0:7148', '-n', '1'])
  expect(odd.stderr).toMatch(/^speadcast: warning: 0\.0\.0\.0:7148 is this host: .* \(speadcast explain SPEADCAST_INTERFACE\)$/m)
})
