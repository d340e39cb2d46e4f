// Steps about what the host and its driver do besides sending: multicast that comes back, pinned memory, pauses.
import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { CLI, gbps, notDone, percent, probe, sendArgs, speadcast, startProbe, textOf, verdict } from './common.mjs'

/** Bits per second of UDP payload. 512 packets of 8972 bytes take 6 s, longer than a queue may be silent by default. */
const SLOW_BPS = 6e6
const SLOW_PACKETS = 560

export async function slowPacing(ctx) {
  const { pacing } = ctx.device
  if (!pacing) return notDone('the device has no rate limit for raw packet queue pairs')
  const rate = Math.max(SLOW_BPS, pacing.minBytesPerSecond * 8 * 1.1)
  const packet = ctx.largestPacket
  const args = [
    '-n',
    1,
    '-H',
    SLOW_PACKETS * (packet - 80),
    '-p',
    packet,
    '--rate',
    `${Math.round(rate)}bps`,
    '--rate-method',
    'hw',
  ]
  const sent = await speadcast(sendArgs(ctx, ...args))
  const fine = sent.code === 0 && sent.heapsFailed === 0 && !sent.stats.trouble
  const found = `${sent.packets} packets at ${(rate / 1e6).toFixed(1)} Mb/s in ${sent.seconds.toFixed(1)} s, ${sent.heapsFailed} heaps failed, ${sent.stats.recoveries} recoveries`
  return verdict(fine, found, { sent })
}

/** Sends for some seconds while a receiver of this host listens to the group. */
async function heard(ctx, doubly) {
  const { to, interface: name, seconds } = ctx.options
  const other = doubly ? await startProbe(ctx, 'hold') : undefined
  const receiver = spawn(process.execPath, [CLI, 'recv', to, '--interface', name, '--stops', '0', '--json'], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let text = ''
  receiver.stdout.setEncoding('utf8').on('data', (part) => {
    text += part
  })
  const closed = new Promise((resolve) => receiver.once('close', resolve))
  await new Promise((resolve) => {
    receiver.stderr.setEncoding('utf8').on('data', (part) => /listening on/.test(part) && resolve())
    receiver.once('close', resolve)
  })
  try {
    const send = (heaps) => speadcast(sendArgs(ctx, '-p', ctx.largestPacket, '-H', '1MiB', '-n', heaps))
    const first = await send(20)
    const sent = await send(Math.max(20, Math.round((first.heaps / first.seconds) * seconds)))
    await sleep(500)
    return { bytesPerSecond: sent.udpBytes / sent.seconds, sent: first.packets + sent.packets, heard: await packetsOf() }
  } finally {
    receiver.kill('SIGKILL')
    other?.kill()
  }
  async function packetsOf() {
    receiver.kill('SIGINT')
    await closed
    return JSON.parse(text.trimEnd().split('\n').at(-1) || '{}').packets ?? 0
  }
}

export async function loopback(ctx) {
  const { disturb, interface: name } = ctx.options
  const file = `/sys/class/net/${name}/settings/force_local_lb_disable`
  const was = textOf(file)
  const rows = []
  const measure = async (what) => {
    for (const doubly of [false, true]) {
      const row = await heard(ctx, doubly)
      const where = `${what}, device open ${doubly ? 'twice' : 'once'}`
      rows.push({ where, ...row })
    }
  }
  if (was === undefined) await measure(`the driver has no ${file}`)
  else if (!disturb || process.getuid() !== 0) await measure(`${file} says "${was}" (as root, --disturb tries both)`)
  else {
    try {
      for (const value of ['0', '1']) {
        writeFileSync(file, value)
        await measure(`${file} set to ${value}`)
      }
    } finally {
      writeFileSync(file, /\b(on|1)$/i.test(was) ? '1' : '0')
    }
  }
  const found = rows.map(
    (row) => `${row.where}: ${gbps(row.bytesPerSecond)}, a receiver of this host heard ${row.heard} of ${row.sent} packets`,
  )
  return { result: 'measured', found: found.join('. '), rows }
}

const FORK = ['fork protection is off', 'fork protection is on', 'the kernel copies pinned pages on fork']

export async function memory(ctx) {
  const found = await probe(ctx, 'memory', ctx.options.seconds)
  const { registrations, fork, relaxed, strict } = found
  const pinned = registrations.map(({ pages, bytes, milliseconds, refused }) =>
    refused
      ? `${pages} pages: ${refused}`
      : `${(bytes / 2 ** 20).toFixed(0)} MiB of ${pages} pages pinned in ${milliseconds.toFixed(1)} ms`,
  )
  const share = percent(relaxed.packetsPerSecond / strict.packetsPerSecond)
  const ordering = `${(relaxed.packetsPerSecond / 1e6).toFixed(3)} Mpps of ${relaxed.frameBytes} bytes with relaxed ordering, ${share} of those without`
  return {
    result: 'measured',
    found: [...pinned, FORK[fork] ?? 'libibverbs does not tell of fork protection', ordering].join('; '),
    ...found,
  }
}
