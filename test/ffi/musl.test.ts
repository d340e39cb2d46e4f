/** Which C library the process runs on, by its mappings; a process on musl itself is in test/project/runtimes.test.ts. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { onMusl } from '#dist/ffi/verbs/musl.js'

const line = (path: string) => `7f2c8a000000-7f2c8a014000 r--p 00000000 fe:00 1053                       ${path}\n`

test.for([
  ['/lib/ld-musl-x86_64.so.1', true],
  ['/lib/ld-musl-aarch64.so.1', true],
  ['/usr/lib/x86_64-linux-musl/libc.so', true],
  ['/usr/lib/x86_64-linux-gnu/libc.so.6', false],
  ['/usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1', false],
  ['/home/ld-musl-tools/bin/node', false],
  ['/srv/@koromix/koffi-linux-x64/musl_x64/koffi.node', false],
] as const)('%s in the mappings', ([path, musl]) => {
  const folder = mkdtempSync(join(tmpdir(), 'speadcast-musl-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const maps = join(folder, 'maps')
  writeFileSync(maps, line('/usr/bin/node') + line(path) + line('[heap]'))
  expect(onMusl(maps)).toBe(musl)
})

test('a machine without /proc is not on musl', () => {
  expect(onMusl('/nonexistent/maps')).toBe(false)
})
