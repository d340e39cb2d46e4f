import { spawn, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { CLI, run, runJson, start } from '../support/cli.js'
import { need } from '../support/need.js'

test('the demo sends, receives and checks every heap', async () => {
  const { code, stderr, json } = await runJson(['demo', '--bytes', '32MiB'])
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  expect(json).toMatchObject({
    heapsSent: 1024,
    heapsReceived: 1024,
    heapsLost: 0,
    heapsIncomplete: 0,
    heapsCorrupt: 0,
    payloadBytes: 32 << 20,
    creditPaced: true,
  })
  for (const key of ['backend', 'reason', 'evidence', 'segmentation']) expect(json[key], key).toEqual(expect.any(String))
  for (const key of ['packets', 'seconds', 'payloadBytesPerSecond', 'packetsPerSecond', 'creditWindowBytes'])
    expect(json[key], key).toBeGreaterThan(0)
})

test('it prints a table', async () => {
  const { code, stdout, stderr } = await run(['demo', '--bytes', '1MiB', '-H', '1000', '-p', '600'])
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  for (const row of [
    /^rate +[\d.]+ .?B\/s/m,
    /^packets\/s +[\d,]+/m,
    /^heaps sent +1,049 /m,
    /^heaps received +1,049$/m,
    /^heaps lost +0$/m,
  ])
    expect(stdout).toMatch(row)
  for (const row of [
    /^heaps corrupt +0, every byte checked$/m,
    /^backend +\w+ \(.+\)$/m,
    /^pace +by credits from the receiver: at most /m,
  ])
    expect(stdout).toMatch(row)
})

test('nobody’s small socket buffer loses nothing', async (ctx) => {
  need(ctx, process.platform === 'linux' && process.getuid?.() === 0, 'becoming another user needs Linux and root')
  need(ctx, !spawnSync('setpriv', ['--version']).error, 'becoming another user needs setpriv (util-linux)')
  const nobody = ['--reuid=65534', '--regid=65534', '--clear-groups', '--inh-caps=-all', '--bounding-set=-all']
  const child = spawn('setpriv', [...nobody, process.execPath, CLI, 'demo', '--bytes', '64MiB', '--json'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let stdout = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  const code = await new Promise((resolve) => child.once('close', resolve))
  const json = JSON.parse(stdout)
  expect({ code, lost: json.heapsLost, corrupt: json.heapsCorrupt }).toEqual({ code: 0, lost: 0, corrupt: 0 })
  // Twice this is asked of the kernel by default; an ordinary user gets net.core.rmem_max.
  expect(json.receiver.receiveBufferBytes).toBeLessThan(64 << 20)
})

/** Seconds of CPU the process has used (proc(5): utime and stime, in hundredths). */
function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1]!.split(' ')
  return (Number(fields[11]) + Number(fields[12])) / 100
}

test('Ctrl-C ends it with what was sent till then, all of it received', async (ctx) => {
  need(ctx, process.platform === 'linux', 'seeing that another process is at work needs /proc')
  const demo = start(['demo', '--bytes', '1TiB', '--json'])
  // Start-up takes a third of a second of it.
  while (cpuSeconds(demo.child.pid!) < 1.5) await new Promise((resolve) => setTimeout(resolve, 50))
  demo.child.kill('SIGINT')
  const { code, stdout, stderr } = await demo.done
  const json = JSON.parse(stdout)
  expect({ interrupted: json.interrupted, stderr }).toEqual({ interrupted: true, stderr: expect.stringMatching(/^interrupted: /) })
  expect(json.heapsSent).toBeGreaterThan(0)
  expect({ code, received: json.heapsReceived, lost: json.heapsLost }).toEqual({ code: 0, received: json.heapsSent, lost: 0 })
})
