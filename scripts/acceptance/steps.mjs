// The steps of scripts/acceptance.mjs, in their order. Each returns { result: 'passed' | 'failed' | 'measured' | 'not done', found,
// … }: 'measured' if there is no right answer, only one to know; 'not done' with the reason. Its other fields go to report.json
// too.
import { spawnSync } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  CLI,
  gbps,
  libraryOf,
  macOf,
  missed,
  notDone,
  percent,
  portOf,
  probe,
  run,
  sendArgs,
  speadcast,
  tagBytesOf,
  textOf,
  verdict,
} from './common.mjs'
import { datagramOf, framesOf, heapsOf } from './frames.mjs'
import { loopback, memory, slowPacing } from './host.mjs'
import { multicastMac } from './multicast-mac.mjs'
import { captureWhile, secondHostMissing } from './second-host.mjs'

const UDP_AND_FRAME_BYTES = 42
const FCS_BYTES = 4
/** perftest's largest. */
const LARGEST_FRAME_BYTES = 9600
/** The largest deviation of a kept rate that passes. */
const RATE_TOLERANCE = 0.02

async function device(ctx) {
  const { options } = ctx
  const { code, stdout, stderr } = await run(process.execPath, [CLI, 'devices', '--json', ...libraryOf(options)])
  if (code !== 0) return verdict(false, stderr.trim())
  const { devices } = JSON.parse(stdout)
  const path = await probe(ctx, 'path')
  if (path.refused) return verdict(false, path.refused, { devices })
  ctx.device = devices.find(({ name }) => name === path.device)
  ctx.port = ctx.device.ports.find(({ port }) => port === path.port)
  const mtuBytes = Number(textOf(`/sys/class/net/${options.interface}/mtu`))
  ctx.largestPacket = mtuBytes - 28
  const driver = spawnSync('ethtool', ['-i', options.interface], { encoding: 'utf8' }).stdout ?? ''
  const { name, firmware, vendorId, partId, refused, rawPackets } = ctx.device
  const what = `${name}, firmware ${firmware}, vendor 0x${vendorId.toString(16)} part ${partId}, port ${ctx.port.port}, MTU ${mtuBytes}, behind ${path.interfaces.join(' on ')}${path.bond ? ', the port that the bond sends by' : ''}`
  const waits = textOf(`/sys/class/infiniband/${name}/ports/${path.port}/counters/port_xmit_wait`)
  const stalls = waits === undefined ? 'no port_xmit_wait tells when it is held up' : `port_xmit_wait ${waits}`
  if (!rawPackets) ctx.device = undefined
  return verdict(rawPackets, rawPackets ? `${what}; ${stalls}` : `${what}: ${refused}`, {
    devices,
    path,
    driver: driver.trim().split('\n'),
  })
}

async function choice(ctx) {
  const { options } = ctx
  const report = await speadcast(['doctor', options.to, '--interface', options.interface, ...libraryOf(options)])
  return verdict(report.backend === 'ibverbs', `auto takes ${report.backend}: ${report.reason}`, { report })
}

async function throughput(ctx) {
  const { options, device: card, port } = ctx
  const rows = []
  for (const packetSize of [1472, ctx.largestPacket].filter(
    (size, i, all) => size <= ctx.largestPacket && all.indexOf(size) === i,
  )) {
    const send = (heaps) => speadcast(sendArgs(ctx, '-p', packetSize, '-H', '1MiB', '-n', heaps))
    const first = await send(200)
    const ours = await send(Math.max(200, Math.round((first.heaps / first.seconds) * options.seconds)))
    const row = { packetSize, packetsPerSecond: ours.packetsPerSecond, udpBytesPerSecond: ours.udpBytes / ours.seconds, ours }
    rows.push(row)
    if (spawnSync('raw_ethernet_bw', ['--version']).error) continue
    const source = macOf(options.interface)
    const tagBytes = tagBytesOf(options.interface)
    const group = options.to.split(':')[0]
    const target = [...multicastMac(group)].map((byte) => byte.toString(16).padStart(2, '0')).join(':')
    // perftest counts the frame check sequence as part of its message.
    const frame = Math.min(ours.udpBytes / ours.packets, packetSize) + UDP_AND_FRAME_BYTES + tagBytes + FCS_BYTES
    // It clips frames to what it is told of the MTU, by which it means a frame too.
    const largest = Math.min(LARGEST_FRAME_BYTES, ctx.largestPacket + UDP_AND_FRAME_BYTES + tagBytes + FCS_BYTES)
    const args = [
      '--client',
      '-d',
      card.name,
      '-i',
      port.port,
      '-B',
      source,
      '-E',
      target,
      '-j',
      port.gids.find((gid) => gid.includes('.')) ?? '10.0.0.1',
    ]
    args.push('-J', group, '-k', 7148, '-K', portOf(options), '-s', Math.round(frame), '-m', largest, '-l', 64, '-t', 256)
    args.push('-n', Math.max(6400, Math.ceil((ours.packetsPerSecond * options.seconds) / 64) * 64))
    const peer = await run('raw_ethernet_bw', args.map(String))
    const [, , , average, messages] =
      /^\s*\d+\s+\d+\s+[\d.]+\s+[\d.]+\s+[\d.]+\s*$/m.exec(peer.stdout)?.[0].trim().split(/\s+/) ?? []
    row.perftest = messages
      ? { megabytesPerSecond: Number(average), packetsPerSecond: Number(messages) * 1e6 }
      : { failed: peer.stdout + peer.stderr }
  }
  const found = rows.map(({ packetSize, packetsPerSecond, udpBytesPerSecond, perftest }) => {
    const ours = `${packetSize}: ${(packetsPerSecond / 1e6).toFixed(3)} Mpps, ${gbps(udpBytesPerSecond)}`
    if (!perftest) return ours
    if (perftest.failed !== undefined) return `${ours}; raw_ethernet_bw failed`
    return `${ours}; raw_ethernet_bw ${(perftest.packetsPerSecond / 1e6).toFixed(3)} Mpps, ours ${percent(packetsPerSecond / perftest.packetsPerSecond)} of it`
  })
  if (rows.every(({ perftest }) => !perftest))
    found.push('raw_ethernet_bw is not installed (Debian: perftest), so there is nothing to compare with')
  return {
    result: rows.some(({ perftest }) => perftest?.packetsPerSecond) ? 'measured' : 'not done',
    found: found.join('. '),
    rows,
  }
}

async function capture(ctx) {
  const why = secondHostMissing(ctx.options)
  if (why) return notDone(why)
  const rate = 200e6
  const heaps = 50
  // Descriptors and stop heap go in packets of their own.
  const count = heaps * Math.ceil(262144 / (ctx.largestPacket - 80)) + 2
  const args = sendArgs(ctx, '-n', heaps, '-H', '256KiB', '-p', ctx.largestPacket, '--rate', `${rate}bps`)
  const seconds = (heaps * 262144 * 8) / rate + 5
  const {
    result: sent,
    pcap,
    dropped,
  } = await captureWhile(ctx.options, { port: portOf(ctx.options), count: count + 1000, seconds }, () => speadcast(args))
  const frames = framesOf(pcap)
  const datagrams = frames.map(({ bytes }) => datagramOf(bytes)).filter(Boolean)
  ctx.captured = { datagrams, sent }
  const seen = heapsOf(datagrams.map(({ payload }) => payload))
  const group = ctx.options.to.split(':')[0]
  const target = [...multicastMac(group)].map((byte) => byte.toString(16).padStart(2, '0')).join(':')
  const source = macOf(ctx.options.interface)
  const odd = datagrams.filter((d) => d.to !== target || d.from !== source || d.fragment).length
  const ok =
    sent.code === 0 && datagrams.length === sent.packets && seen.whole === sent.heaps && seen.wrongPackets === 0 && odd === 0
  const found =
    `${sent.packets} packets sent (${sent.evidence}), ${datagrams.length} captured; ${seen.whole} of ${sent.heaps} heaps whole, ` +
    `${seen.wrongPackets} packets with wrong samples, ${odd} frames with other addresses than expected or fragmented${missed(dropped)}`
  return verdict(ok, found, {
    sent,
    captured: datagrams.length,
    ...seen,
    odd,
    hops: [...new Set(datagrams.map((d) => d.hops))],
  })
}

function checksums(ctx) {
  if (!ctx.captured) return notDone(secondHostMissing(ctx.options) || 'nothing was captured')
  const { datagrams } = ctx.captured
  const tally = (field) => {
    const counts = { right: 0, wrong: 0, none: 0 }
    for (const datagram of datagrams) counts[datagram[field]]++
    return counts
  }
  const ip = tally('ipChecksum')
  const udp = tally('udpChecksum')
  const offload = ctx.device.checksumOffload
  // Where the device fills none, UDP over IPv4 goes without.
  const expected = offload ? udp.right : udp.none
  const ok = datagrams.length > 0 && ip.right === datagrams.length && expected === datagrams.length
  const say = (name, { right, wrong, none }) => `${name}: ${right} right, ${wrong} wrong, ${none} none`
  return verdict(ok, `${say('IPv4', ip)}; ${say('UDP', udp)}; the device ${offload ? 'fills' : 'does not fill'} them`, {
    ip,
    udp,
    offload,
  })
}

async function oversize(ctx) {
  const refused = await run(process.execPath, [CLI, ...sendArgs(ctx, '-n', 1, '-p', ctx.largestPacket + 1).map(String)])
  const refuses = refused.code === 2 && refused.stderr.includes('exceeds MTU')
  const why = secondHostMissing(ctx.options)
  const body = () => probe(ctx, 'oversize')
  const { result: found, pcap } = why
    ? { result: await body() }
    : await captureWhile(ctx.options, { port: portOf(ctx.options), count: 4, seconds: 10 }, body)
  const arrived = pcap && framesOf(pcap).map(({ bytes }) => datagramOf(bytes)?.payload.length)
  const told = found.frames.map(({ payloadBytes, accepted, errno, completions }) => {
    const status = accepted ? `completion ${completions[0]?.status ?? 'none'}` : `refused with errno ${errno}`
    return `${payloadBytes} bytes: ${status}${arrived ? `, ${arrived.includes(payloadBytes) ? 'arrived' : 'did not arrive'}` : ''}`
  })
  const says = `speadcast ${refuses ? 'refuses' : 'does NOT refuse'} packets above the MTU. Below it, of MTU ${found.mtuBytes}: ${told.join('; ')}`
  const fits = found.frames[0]
  const fine = refuses && fits.completions[0]?.status === 0 && (!arrived || arrived.includes(fits.payloadBytes))
  return {
    ...(fine ? { result: 'measured' } : { result: 'failed' }),
    found: `${says}${why ? `. Whether they arrive: ${why}` : ''}`,
    frames: found.frames,
    arrived,
  }
}

async function flush(ctx) {
  const found = await probe(ctx, 'flush')
  const { posted, badRow, failed, flushCompletions, afterReset } = found
  const behind = posted - badRow - 1
  const recovered = afterReset.accepted === posted && afterReset.completions.at(-1)?.status === 0
  const ok = failed.length === 1 && failed[0].row === badRow && flushCompletions === behind && recovered
  const says =
    `of ${posted} requests, one of them signalled, number ${badRow} failed (${failed.map((f) => `row ${f.row}: status ${f.status}, vendor code 0x${f.vendorError.toString(16)}`).join('; ') || 'no completion said so'}); ` +
    `${flushCompletions} flush completions for the ${behind} behind it; after reset the queue ${recovered ? 'sends again' : 'does not send again'}`
  return verdict(ok, says, found)
}

async function rates(ctx, method) {
  const { pacing } = ctx.device
  if (method === 'hw' && !pacing) return notDone('the device has no rate limit for raw packet queue pairs')
  const rows = []
  for (const text of ctx.options.rates.split(',')) {
    const [, number, unit] = /^([\d.]+)([GM])bps$/.exec(text) ?? []
    if (!number) throw new Error(`--rates ${text}: give them as 500Mbps,10Gbps`)
    const wanted = (Number(number) * { G: 1e9, M: 1e6 }[unit]) / 8
    if (ctx.fastest && wanted > 0.9 * ctx.fastest) {
      rows.push({ text, skipped: `above nine tenths of what this host sends, ${gbps(ctx.fastest)}` })
      continue
    }
    if (method === 'hw' && (wanted < pacing.minBytesPerSecond || wanted > pacing.maxBytesPerSecond)) {
      rows.push({ text, skipped: `outside the device's ${gbps(pacing.minBytesPerSecond)} to ${gbps(pacing.maxBytesPerSecond)}` })
      continue
    }
    const heaps = Math.max(20, Math.round((wanted * ctx.options.seconds) / 65536))
    const args = ['-n', heaps, '-H', '64KiB', '-p', ctx.largestPacket, '--rate', text, '--rate-method', method]
    // The device may miss high rates where it may not send a few frames in a row (max_burst_sz).
    for (const burst of method === 'hw' ? [[], ['--burst', 1]] : [[]]) {
      const sent = await speadcast(sendArgs(ctx, ...args, ...burst))
      const reached = sent.udpBytes / sent.seconds
      rows.push({ text, frameBursts: burst.length > 0, wanted, reached, deviation: reached / wanted - 1, sent })
    }
  }
  const done = rows.filter(({ skipped }) => !skipped)
  const found = rows.map((row) =>
    row.skipped
      ? `${row.text}: not done, ${row.skipped}`
      : `${row.text}${row.frameBursts ? ' in bursts of one frame' : ''}: ${gbps(row.reached)} (${row.deviation >= 0 ? '+' : ''}${percent(row.deviation)})`,
  )
  if (done.length === 0) return notDone(found.join('; '), { rows })
  return verdict(
    done.every(({ deviation, frameBursts }) => frameBursts || Math.abs(deviation) <= RATE_TOLERANCE),
    `${found.join('; ')}; UDP payload, within ${percent(RATE_TOLERANCE)} passes`,
    { rows },
  )
}

async function linkDown(ctx) {
  const { options } = ctx
  if (!options.disturb) return notDone(`takes ${options.interface} down for three seconds: say --disturb if that may be`)
  if (process.getuid() !== 0) return notDone('only root may take an interface down')
  const ip = (state) => spawnSync('ip', ['link', 'set', options.interface, state], { encoding: 'utf8' })
  let failed = ''
  const disturb = async (child) => {
    // Started, then down, then up, then long enough to see it go on.
    await sleep(3000)
    failed = ip('down').stderr
    await sleep(3000)
    failed += ip('up').stderr
    await sleep(4000)
    child.kill('SIGTERM')
  }
  const args = sendArgs(ctx, '-n', 1_000_000, '-H', '64KiB', '-p', ctx.largestPacket, '--rate', '80Mbps')
  const body = () => speadcast(args, { timeoutMs: 40_000, onStart: disturb })
  const why = secondHostMissing(options)
  const wanted = { port: portOf(options), count: 1_000_000, seconds: 14 }
  const { result: sent, pcap, dropped } = why ? { result: await body() } : await captureWhile(options, wanted, body)
  if (failed) return notDone(`ip link set: ${failed.trim()}`)
  const noticed = sent.heapsSuspect + sent.heapsFailed > 0
  const says = `${sent.heaps} heaps sent, of them ${sent.heapsSuspect} suspect, ${sent.heapsFailed} failed, ${sent.heapsDropped} dropped at the end`
  if (!pcap) return verdict(noticed, `${says}. Whether the others arrived: ${why}`, { sent })
  const seen = heapsOf(
    framesOf(pcap)
      .map(({ bytes }) => datagramOf(bytes)?.payload)
      .filter(Boolean),
  )
  const kept = seen.whole >= sent.heaps - sent.heapsSuspect
  const verdictOnRest = kept
    ? 'no heap that was reported sent and not suspect is missing'
    : 'heaps that were reported sent, and not suspect, are MISSING'
  const found = `${says}; ${seen.whole} arrived whole, ${seen.partial.length} in part: ${verdictOnRest}${missed(dropped)}`
  return verdict(noticed && kept, found, { sent, seen })
}

export const STEPS = [
  { name: 'device', about: 'the interface has an RDMA device with raw packet queue pairs', run: device },
  { name: 'choice', about: '`auto` takes backend ibverbs', needsDevice: true, run: choice },
  {
    name: 'throughput',
    about: 'as fast as possible, beside raw_ethernet_bw (64 requests a post)',
    needsDevice: true,
    run: async (ctx) => {
      const step = await throughput(ctx)
      ctx.fastest = Math.max(...step.rows.map(({ udpBytesPerSecond }) => udpBytesPerSecond))
      return step
    },
  },
  { name: 'capture', about: 'what is reported sent arrives at a second host, byte for byte', needsDevice: true, run: capture },
  { name: 'checksums', about: 'IPv4 and UDP checksums on the wire', needsDevice: true, run: checksums },
  { name: 'over the MTU', about: 'what the device does with frames above the MTU', needsDevice: true, run: oversize },
  { name: 'flush', about: 'completions when a request fails, and recovery', needsDevice: true, run: flush },
  { name: 'rate sw', about: 'the rate that the program keeps', needsDevice: true, run: (ctx) => rates(ctx, 'sw') },
  { name: 'rate hw', about: 'the rate that the device keeps', needsDevice: true, run: (ctx) => rates(ctx, 'hw') },
  { name: 'slow pacing', about: 'a rate at which the queue is silent for seconds', needsDevice: true, run: slowPacing },
  { name: 'loopback', about: 'multicast that comes back to this host', needsDevice: true, run: loopback },
  {
    name: 'memory',
    about: 'how long memory takes to be pinned, fork protection, relaxed ordering',
    needsDevice: true,
    run: memory,
  },
  { name: 'link down', about: 'the interface is down for three seconds while heaps are sent', needsDevice: true, run: linkDown },
]
