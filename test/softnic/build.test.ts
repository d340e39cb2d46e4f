/** The software NIC has the names and versions of the installed libraries, and every build has the same bytes. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { need } from '../support/need.js'
import { buildSoftnic, compileSoftnic, installedLibrary, softnicUnavailable } from '../support/softnic.js'

/** `VERSION name` of every symbol that a library defines under its current version. */
function symbols(file: string): string[] {
  const { stdout } = spawnSync('objdump', ['-T', file], { encoding: 'utf8' })
  const lines = stdout.split('\n').filter((line) => / g +D[FO] /.test(line) && !/\*(UND|ABS)\*/.test(line))
  const pairs = lines.map((line) => line.trim().split(/\s+/).slice(-2).join(' '))
  return pairs.filter((pair) => !pair.startsWith('(')).sort()
}

for (const library of ['libibverbs', 'librdmacm'])
  test(`${library} has every name of the installed one, under its version`, { timeout: 120_000 }, (ctx) => {
    const why = softnicUnavailable()
    need(ctx, !why, why)
    const ours = symbols(join(buildSoftnic().directory, `${library}.so.1`))
    const theirs = symbols(installedLibrary(`${library}.so`)!)
    expect(theirs.length).toBeGreaterThan(60)
    expect(ours).toEqual(theirs)
  })

test('two builds are the same, byte for byte', { timeout: 120_000 }, (ctx) => {
  const why = softnicUnavailable()
  need(ctx, !why, why)
  const again = mkdtempSync(join(tmpdir(), 'speadcast-softnic-'))
  try {
    compileSoftnic(again)
    for (const file of ['libibverbs.so.1', 'librdmacm.so.1', 'check'])
      expect(readFileSync(join(again, file)).equals(readFileSync(join(buildSoftnic().directory, file))), file).toBe(true)
  } finally {
    rmSync(again, { recursive: true })
  }
})
