// What README.md says of options and commands, held against what there is. test/project/pack.test.ts runs its example.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openStream } from '#dist/src/index.js'
import { run } from '../support/cli.js'

const README = readFileSync(join(import.meta.dirname, '../../README.md'), 'utf8')
const section = (title: string): string => README.split(/^## /m).find((text) => text.startsWith(title)) ?? ''

test('the table of options has every option of openStream and no other', async () => {
  const error = await openStream({ to: '127.0.0.1:7148', noSuchOption: 1 } as never).catch((reason: Error) => reason)
  const known = (error as Error).message.match(/known ones: (.*)$/)![1]!.split(', ')
  const rows = section('Options of `openStream`').match(/^\| `.*$/gm)!
  const told = rows.flatMap((row) => [...row.split('|')[1]!.matchAll(/`(\w+)`/g)].map(([, name]) => name!))
  expect(told.sort()).toEqual(known.sort())
})

test('every command line has only options that exist', async () => {
  const lines = section('From the command line').match(/^.*\bspeadcast (send|recv|bench) .*$/gm)!
  expect(lines.length).toBeGreaterThan(5)
  for (const line of lines) {
    const [, command, rest] = line.match(/speadcast (send|recv|bench) (.*)$/)!
    const { stdout } = await run([command!, '--help'])
    const options = rest!.match(/(?<= )--?[A-Za-z][\w-]*/g) ?? []
    for (const option of options) expect(stdout, line).toMatch(new RegExp(`^ +(-\\w, )?${option}[ ,]`, 'm'))
  }
})

test('relative links lead to files', () => {
  const links = [...README.matchAll(/\]\(((?!https?:)[^)#]+)\)/g)].map(([, path]) => path!)
  expect(links.length).toBeGreaterThan(1)
  for (const link of links) expect(() => readFileSync(join(import.meta.dirname, '../..', link))).not.toThrow()
})
