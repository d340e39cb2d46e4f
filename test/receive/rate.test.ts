import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { distFile } from '../support/child.js'
import { need } from '../support/need.js'
import { freePort, recvArgv, start } from './support.js'

// A machine whose two cores are taken by other work may stall any receiver beyond what its buffer holds: one quiet run of three is asked.
test('send --rate 2Gbps loses nothing to recv with a socket buffer of rmem_max, every byte checked and hashed', {
  retry: 2,
}, async (ctx) => {
  need(ctx, process.platform === 'linux', 'reads net.core.rmem_max')
  const rmemMax = Number(readFileSync('/proc/sys/net/core/rmem_max', 'utf8'))
  need(ctx, rmemMax >= 4 << 20, `net.core.rmem_max is ${rmemMax}; 2 Gb/s needs 4 MiB (sysctl -w net.core.rmem_max=4194304)`)
  const to = `127.0.0.1:${await freePort()}`
  const receiving = start(recvArgv(to, '--verify', '--json', '--timeout', '20', '--buffer', `${Math.min(rmemMax, 2 ** 30)}`))
  await receiving.said(/listening/)
  const sending = start(['node', distFile('src/cli/main.js'), 'send', to, '--rate', '2Gbps', '-n', '300', '--json'])
  const [sent, received] = [await sending.ended, await receiving.ended]
  expect([sent.code, sent.stderr]).toEqual([0, ''])
  const { packets, payloadBytes } = JSON.parse(sent.stdout)
  const result = JSON.parse(received.stdout)
  const nothingLost = { heaps: 300, heapsIncomplete: 0, heapsCorrupt: 0, verifyMissing: 0, droppedByKernel: 0, malformed: 0 }
  expect({ code: received.code, result }).toMatchObject({ code: 0, result: { ...nothingLost, packets, payloadBytes } })
  expect(result.packets / result.messages).toBeGreaterThan(4)
})
