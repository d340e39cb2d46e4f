import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import type { Row } from '../../scripts/bench/points.mjs'
import { differences, openRows, readRows } from '../../scripts/bench/rows.mjs'

const machine: Row = {
  ...{ kind: 'machine', cpu: 'A', cpus: 2, kernel: 'Linux 6', hypervisor: true, mitigations: { spectre_v1: 'x' } },
  ...{ transparentHugePages: 'madvise', node: 'v20', koffi: '3', gcc: '12', sources: 'abc', commit: '1', date: 'monday' },
}

function temporary(): string {
  const folder = mkdtempSync(join(tmpdir(), 'speadcast-rows-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  return join(folder, 'deep/rows.jsonl')
}

test('a file begins anew, or goes on with a machine line for each part', () => {
  const file = temporary()
  openRows(file, machine).add({ kind: 'run', round: 0 })
  const again = openRows(file, { ...machine, date: 'tuesday' }, { append: true })
  expect(again.rows).toHaveLength(2)
  again.add({ kind: 'run', round: 1 })
  again.add({ kind: 'run', round: 2 })
  const rows = readRows(file)
  expect(rows.map((row) => row.date ?? row.round)).toEqual(['monday', 0, 'tuesday', 1, 2])
  expect(again.rows).toEqual(rows)
  openRows(file, machine)
  expect(readFileSync(file, 'utf8')).toBe('')
})

test('a part with no rows leaves no machine line', () => {
  const file = temporary()
  openRows(file, machine).add({ kind: 'run' })
  openRows(file, machine, { append: true })
  expect(readRows(file)).toHaveLength(2)
})

describe('rows of another machine or other sources', () => {
  test.each(['cpu', 'cpus', 'kernel', 'mitigations', 'node', 'koffi', 'sources'])('%s differs: refused', (key) => {
    const file = temporary()
    openRows(file, machine).add({ kind: 'run' })
    expect(() => openRows(file, { ...machine, [key]: 'other' }, { append: true })).toThrow(`${key} was `)
    expect(readRows(file)).toHaveLength(2)
  })

  test('a file that does not say of which sources is refused', () => {
    const { sources, ...old } = machine
    expect(sources).toBe('abc')
    expect(differences(old, machine)).toEqual(['sources'])
  })

  test('commit and date may differ, and spead2 counts only where both used it', () => {
    expect(differences(machine, { ...machine, commit: '2', date: 'tuesday', spead2: '4.5.1' })).toEqual([])
    expect(differences({ ...machine, spead2: '4.5.0' }, { ...machine, spead2: '4.5.1' })).toEqual(['spead2'])
  })

  test('the last part is what the next must match', () => {
    const file = temporary()
    openRows(file, machine).add({ kind: 'run' })
    writeFileSync(file, `${readFileSync(file, 'utf8')}${JSON.stringify({ ...machine, cpu: 'B' })}\n`)
    expect(() => openRows(file, machine, { append: true })).toThrow('cpu was "B", is "A"')
  })
})

test('a file that is not there has no rows', () => {
  expect(readRows(temporary())).toEqual([])
})
