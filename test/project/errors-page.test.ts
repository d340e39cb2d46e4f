import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'

test('docs/errors.md is made from the table of error codes', () => {
  expect(() => execFileSync(process.execPath, ['scripts/errors-page.mjs', '--check'], { stdio: 'pipe' })).not.toThrow()
})
