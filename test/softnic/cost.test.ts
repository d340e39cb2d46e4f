/** Measures and prints the cost of a WR on the software NIC, and asserts nothing of it. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'
import { buildSoftnic, NOTHING_LEAKED, readReport, softnicUnavailable } from '../support/softnic.js'

for (const mode of ['null', 'model'] as const)
  test(`a C loop that posts two-SGE WRs in mode ${mode}`, { timeout: 120_000 }, async (ctx) => {
    const why = softnicUnavailable() || netnsUnavailable()
    need(ctx, !why, why)
    const nic = buildSoftnic()
    await using ns = await makeNetns({ veth: { mtu: 9000 } })
    const directory = mkdtempSync(join(tmpdir(), 'speadcast-softnic-'))
    try {
      const report = join(directory, 'report.json')
      const { stdout } = await ns.exec('a', [nic.cost, '200000'], { env: nic.environment({ mode, report }) })
      console.log(stdout.trimEnd().replace(/^/gm, `softnic ${mode}: `))
      const perRun = [1, 16, 64, 256].map((chain) => Math.floor(200_000 / chain) * chain)
      const posted = 9 * perRun.reduce((sum, n) => sum + n)
      expect(readReport(report)).toMatchObject({ posted, frames: posted, droppedOversize: 0, leaked: NOTHING_LEAKED })
    } finally {
      rmSync(directory, { recursive: true })
    }
  })
