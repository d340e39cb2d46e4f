/** docs/errors.md: what each name means there, and that its examples do what they say. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { ERROR_CODES, SpeadcastError } from '#dist/src/errors.js'
import { codeBlocks, page } from '../support/documents.js'
import { need } from '../support/need.js'
import { project, ROOT, runIn } from './support.js'

const PAGE = page('docs/errors.md')
/** Sections of names by their headings. */
const SECTIONS = new Map(
  PAGE.text
    .split(/^### /m)
    .slice(1)
    .map((text) => [text.slice(0, text.indexOf('\n')), text.slice(text.indexOf('\n') + 1).split(/^## /m)[0]!]),
)
const CODES = Object.keys(ERROR_CODES) as (keyof typeof ERROR_CODES)[]

/** What src/ and ffi/ say, without comments. */
const SOURCE = ['src', 'ffi']
  .flatMap((room) => readdirSync(join(ROOT, room), { recursive: true, encoding: 'utf8' }).map((file) => join(room, file)))
  .filter((file) => file.endsWith('.ts'))
  .map((file) => readFileSync(join(ROOT, file), 'utf8').replace(/^\s*(\/?\*|\/\/).*$/gm, ''))
  .join('\n')

const WARNINGS = [...new Set([...SOURCE.matchAll(/\b(?:warn\(|code:)\s*'(SPEADCAST_\w+)'/g)].map(([, code]) => code!))].sort()

/** Examples of what cannot be made to happen on every machine: they show what to do about it. */
const HANDLES = [
  'ERR_SPEADCAST_BUNDLED',
  'ERR_SPEADCAST_RESOLVE',
  'ERR_SPEADCAST_WORKER',
  'ERR_SPEADCAST_NATIVE',
  'SPEADCAST_LISTENER',
]

const example = (name: string) => codeBlocks({ name, text: SECTIONS.get(name)! }).find(({ language }) => language === 'ts')

test('every code of the table is thrown somewhere', () => {
  const thrown = SOURCE.replace(/export const ERROR_CODES = \{.*?\} as const/s, '')
  expect(CODES.filter((name) => !thrown.includes(`'${name}'`))).toEqual([])
})

test('every code and every warning has a section, which has a name of ours or of an errno', () => {
  expect(WARNINGS).toContain('SPEADCAST_OVERWRITE')
  expect([...CODES, ...WARNINGS].filter((name) => !SECTIONS.has(name))).toEqual([])
  const ours = [...SECTIONS.keys()].filter((name) => name.includes('SPEADCAST'))
  expect(ours.sort()).toEqual([...CODES, ...WARNINGS].sort())
})

test.for([...SECTIONS])('%s: meaning, causes, remedy, example', ([name, text]) => {
  const meaning = ERROR_CODES[name as (typeof CODES)[number]]
  if (meaning) expect(text.trim().split('\n')[0]).toBe(meaning)
  expect(text.trim()).toMatch(/^[A-Z`][^\n]*\.\n/)
  for (const part of ['Causes', 'Remedy', 'Example']) expect(text).toMatch(new RegExp(`^\\*\\*${part}:?\\*\\*:? ?`, 'm'))
  if (name.includes('SPEADCAST')) expect(example(name)?.code).toBeTruthy()
})

/** Texts of the source that a message may be made of. */
const SAID = SOURCE.replace(/['"`]\s*\+\s*['"`]/g, '').replace(/\s+/g, ' ')
const isSaid = (message: string): boolean =>
  Array.from({ length: Math.max(0, message.length - 15) }, (_, i) => message.slice(i, i + 16)).some((part) => SAID.includes(part))

test('the messages that sections quote are of this program', () => {
  const quoted = [...SECTIONS.values()].flatMap((text) =>
    [...text.replace(/^```.*?^```$/gms, '').matchAll(/(`+)(.+?)\1/gs)].map(([, , code]) => code!.replace(/\s+/g, ' ').trim()),
  )
  const messages = quoted.filter((code) => code.split(' ').length >= 6 && !/^(ip|ethtool) /.test(code))
  expect(messages.length).toBeGreaterThan(60)
  expect(messages.filter((message) => !isSaid(message))).toEqual([])
  expect(isSaid('item thirteen: has no colour that could be sent')).toBe(false)
})

test('an error leads to its section', () => {
  for (const code of CODES) {
    const [file, anchor] = new SpeadcastError(code, '').help.split('#')
    expect(file).toBe('node_modules/speadcast/docs/errors.md')
    expect([...SECTIONS.keys()].map((heading) => heading.toLowerCase())).toContain(anchor)
  }
})

describe('examples', () => {
  test('print the code that they are about, or the warning', { timeout: 60_000 }, (ctx) => {
    need(ctx, process.platform === 'linux', 'one is about IPv6 of Linux')
    const ts = createRequire(import.meta.url)('typescript') as typeof import('typescript')
    const compilerOptions = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext }
    const names = [...CODES, ...WARNINGS].filter((name) => !HANDLES.includes(name))
    const { directory, remove } = project({ 'package.json': '{ "type": "module" }' })
    try {
      for (const name of names) {
        const { outputText } = ts.transpileModule(example(name)!.code, { compilerOptions })
        writeFileSync(join(directory, `${name}.js`), outputText.replaceAll("'speadcast'", `'${join(ROOT, 'lib/index.js')}'`))
      }
      // One process for all, because starting one takes longer than the examples do.
      const run = `for (const name of ${JSON.stringify(names)}) { console.log('# ' + name); await import('./' + name + '.js'); await new Promise(setImmediate) }`
      writeFileSync(join(directory, 'run.js'), run)
      const { status, stdout, stderr } = runIn(directory, process.execPath, ['--no-warnings', 'run.js'])
      expect(status, stderr).toBe(0)
      const printed = new Map(
        stdout
          .split(/^# /m)
          .slice(1)
          .map((text) => [text.slice(0, text.indexOf('\n')), text]),
      )
      const silent = names.filter((name) => {
        const rest = printed.get(name)!.slice(name.length + 1)
        return name.startsWith('SPEADCAST') ? rest.trim() === '' : !rest.includes(name)
      })
      expect(silent, stdout).toEqual([])
    } finally {
      remove()
    }
  })
})
