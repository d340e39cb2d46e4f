import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { ERROR_CODES } from '#dist/src/errors.js'
import { ROOT } from './support.js'

test('docs/errors.md is made from the table of error codes', () => {
  expect(() => execFileSync(process.execPath, ['scripts/errors-page.mjs', '--check'], { stdio: 'pipe' })).not.toThrow()
})

test('every code of the table is thrown somewhere', () => {
  const code = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts') && file !== 'errors.ts')
    .map((file) => readFileSync(join(ROOT, 'src', file), 'utf8').replace(/^\s*(\*|\/\/).*$/gm, ''))
    .join('\n')
  expect(Object.keys(ERROR_CODES).filter((name) => !code.includes(`'${name}'`))).toEqual([])
})
