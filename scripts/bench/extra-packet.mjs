#!/usr/bin/env node
// Measures whether equal packets are worth one packet more. Takes heaps whose least number of packets cannot be equal while one or
// two more can, cuts them all three ways, and measures sender and receiver. npm run bench:shapes -- extra-packet;
// docs/bench/README.md has the result.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { $ } from 'zx'
import { at } from '../lib/process.mjs'
import { DESTINATION, openBlackHole, PORT } from './blackhole.mjs'
import { describeMachine, watchLoad } from './machine.mjs'
import { groupBy } from './points.mjs'
import { batchHeaps, PROGRAMS, peerPython, runOptions } from './programs.mjs'
import { openRows, readRows } from './rows.mjs'
import { spead2WithGso } from './spead2-gso.mjs'
import { median } from './statistics.mjs'
import { showBytes, table } from './text.mjs'
import { openPair } from './veth.mjs'

/** Largest packet → least numbers of packets. */
const COUNTS = { 1472: [2, 3, 4, 6, 8, 10, 12, 20], 9000: [2, 3, 4, 6, 8, 12] }
const HEADER_BYTES = 40
/** The tutorial's two item pointers take as much, in a heap's first packet. */
const POINTER_BYTES = 16
/** Payload of a run to the black hole; its warm-up has twice that. */
const SEND_BYTES = 2 ** 30
/** How a run to a receiver goes. The rate is one that veth takes, which has room for 256 packets. */
const RECEIVE_BYTES = 2 ** 27
const PACKETS_PER_SECOND = 70_000
/** One CPU for the sender and one for the receiver, with the interface's thread. */
const [SEND_CPU, RECEIVE_CPU] = ['0', '1']
const PLACE = at('.cache/bench/chunk_place.so')
const UNFINISHED = 75

/**
 * A heap of about `fewest` − ½ full packets, and the ways to cut it. `even` adds at most one packet, so
 * for one and two more the largest packet size is set to the equal one. For a heap of 2 packets only 3 are tried, because a heap that
 * 4 packets share equally 2 share too.
 */
function cuts(fewest, packetSizeBytes) {
  const more = fewest === 2 ? [3] : [fewest + 1, fewest + 2]
  const step = more.reduce((product, packets) => product * packets)
  let shared = Math.floor(((fewest - 0.5) * (packetSizeBytes - HEADER_BYTES)) / step) * step
  if (shared % fewest === 0) shared -= step
  const heapSizeBytes = shared - POINTER_BYTES
  return [
    { heapSizeBytes, packets: fewest, split: 'greedy', packetSizeBytes },
    ...more.map((packets) => ({ heapSizeBytes, packets, split: 'even', packetSizeBytes: shared / packets + HEADER_BYTES })),
  ]
}

const udpBytesOf = ({ heapSizeBytes, packets }) => heapSizeBytes + POINTER_BYTES + packets * HEADER_BYTES
const thousandths = (value) => Math.round(value * 1000) / 1000

/** CPU of the sender and its rate, where a device segments and nobody receives. */
async function sends(hole, program, cut) {
  const perBatch = batchHeaps(cut.heapSizeBytes)
  const heaps = perBatch * Math.ceil(SEND_BYTES / cut.heapSizeBytes / perBatch)
  const before = await hole.counters()
  const options = runOptions({ ...cut, batches: 4, heaps, warmupHeaps: 2 * heaps })
  const row = JSON.parse(await hole.run([...program, '--split', cut.split, ...options]))
  const { packets: messages } = await hole.counters()
  return {
    heapsPerSecond: Math.round(row.heaps / row.seconds),
    senderNanoseconds: Math.round((row.cpuSeconds / row.heaps) * 1e9),
    messagesPerHeap: thousandths((messages - before.packets) / (row.heaps + row.warmupHeaps)),
  }
}

/** The kernel's thread that takes packets off v1, and what it used of a CPU. */
function interfaceThread() {
  const comm = (id) => {
    try {
      return readFileSync(`/proc/${id}/comm`, 'utf8')
    } catch {
      return '' // ended meanwhile
    }
  }
  const id = readdirSync('/proc').find((name) => /^\d+$/.test(name) && comm(name).startsWith('napi/v1-'))
  if (!id) throw new Error('v1 has no thread of its own: this kernel has no threaded NAPI')
  return { id, cpuSeconds: () => Number(readFileSync(`/proc/${id}/schedstat`, 'utf8').split(' ')[0]) / 1e9 }
}

/**
 * Two ends: packets cross the pair one by one, as from a card, and a thread on the receiver's CPU takes them off it (NAPI, GRO).
 */
async function openEnds() {
  const pair = await openPair()
  try {
    await pair.sender.ip('link', 'set', 'v0', 'gso_max_segs', '1')
    // veth leaves NAPI out where its other end has TSO.
    await $`${pair.sender.prefix} ethtool -K v0 tso off`.quiet()
    await $`${pair.receiver.prefix} ethtool -K v1 gro on`.quiet()
    await $`${pair.receiver.prefix} sh -c ${'echo 1 > /sys/class/net/v1/threaded'}`.quiet()
    const thread = interfaceThread()
    await $`taskset -p -c ${RECEIVE_CPU} ${thread.id}`.quiet()
    return { ...pair, thread }
  } catch (error) {
    pair.close()
    throw error
  }
}

/**
 * CPU of the interface's thread and of the receiver, which stands still until all has come: so it never waits for packets, and what
 * it takes is what a receiver at its limit would.
 */
async function receives(ends, python, cut) {
  const args = [at('scripts/bench/spead2_recv.py'), PLACE, String(cut.heapSizeBytes), String(PORT)]
  const [command, ...rest] = [...ends.receiver.prefix, 'taskset', '-c', RECEIVE_CPU, ...python, ...args]
  const child = spawn(command, rest, { stdio: ['pipe', 'pipe', 'inherit'] })
  try {
    const closed = once(child, 'close')
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    if ((await lines.next()).value !== 'ready') throw new Error('the receiver did not start')
    const before = ends.thread.cpuSeconds()
    const heaps = Math.round(RECEIVE_BYTES / cut.heapSizeBytes)
    child.kill('SIGSTOP')
    const rate = Math.round((PACKETS_PER_SECOND / cut.packets) * udpBytesOf(cut))
    const how = ['--backend', 'udp', '--udp-path', 'sendmmsg', '--split', cut.split, '-p', cut.packetSizeBytes]
    const what = ['-n', heaps, '-H', cut.heapSizeBytes, '--rate', `${rate}B/s`, '--json', DESTINATION]
    const sender = ['taskset', '-c', SEND_CPU, process.execPath, at('lib/cli.js'), 'send', ...how, ...what]
    await ends.sender.run(sender.map(String))
    child.kill('SIGCONT')
    child.stdin.end()
    const got = JSON.parse((await lines.next()).value)
    const interfaceSeconds = ends.thread.cpuSeconds() - before
    await closed
    const nanoseconds = (seconds) => Math.round((seconds / heaps) * 1e9)
    return {
      interfaceNanoseconds: nanoseconds(interfaceSeconds),
      receiverNanoseconds: nanoseconds(got.cpuSeconds),
      lossShare: thousandths(1 - got.heaps / heaps),
    }
  } finally {
    child.kill('SIGKILL')
  }
}

/** side → opens its ground; the function returned with it runs a cut there. */
async function sidesOf() {
  await $`gcc -O2 -shared -fPIC -o ${PLACE} ${at('scripts/bench/chunk_place.c')}`.quiet()
  const wheel = [peerPython()]
  const source = ['env', `PYTHONPATH=${await spead2WithGso(peerPython())}`, ...wheel]
  const program = await PROGRAMS['ours-sendmmsg'].prepare()
  const receiver = (python) => async () => {
    const ends = await openEnds()
    return { run: (cut) => receives(ends, python, cut), close: ends.close }
  }
  return {
    sender: async () => {
      const hole = await openBlackHole()
      return { run: (cut) => sends(hole, program, cut), close: hole.close }
    },
    'spead2-wheel': receiver(wheel),
    spead2: receiver(source),
  }
}

/** All cuts of a largest packet size in turn, each round from the other end. */
async function measure(open, point, add) {
  const { run, close } = await open()
  try {
    for (const fewest of COUNTS[point.packetSizeBytes]) {
      const all = cuts(fewest, point.packetSizeBytes)
      for (const cut of point.round % 2 ? all.toReversed() : all) {
        const load = watchLoad()
        const measured = await run(cut)
        const { packets, heapSizeBytes, packetSizeBytes: equalBytes } = cut
        add({ kind: 'extra-packet', ...point, fewest, heapSizeBytes, packets, equalBytes, ...measured, ...load() })
      }
    }
  } finally {
    close()
  }
}

/** Runs that count: the machine was left alone, and nearly all heaps came. The interface's thread is one of the other programs. */
const undisturbed = ({ stealShare, otherShare, lossShare = 0 }) => stealShare + otherShare <= 0.1 && lossShare <= 0.005

/** CPU nanoseconds a heap of the fewest packets, and what one and two more add within a round: medians. */
function report(rows) {
  const runs = rows.filter((row) => row.kind === 'extra-packet' && undisturbed(row))
  const of = (row) => row.senderNanoseconds ?? row.interfaceNanoseconds + row.receiverNanoseconds
  const signed = (n) => `${n < 0 ? '−' : '+'}${Math.abs(Math.round(n))}`
  const lines = [...groupBy(runs, (row) => `${row.packetSizeBytes} ${row.fewest}`).values()].map((own) => {
    const { packetSizeBytes, fewest, heapSizeBytes } = own[0]
    const cells = ['sender', 'spead2-wheel', 'spead2'].flatMap((side) => {
      const at = (extra) => own.filter((row) => row.side === side && row.packets === fewest + extra)
      const least = at(0)
      const added = (extra) =>
        at(extra).flatMap((row) => least.filter(({ round }) => round === row.round).map((few) => of(row) - of(few)))
      const shown = [added(1), added(2)].map((list) => (list.length ? signed(median(list)) : '–'))
      return [least.length ? Math.round(median(least.map(of))) : '–', ...shown]
    })
    return [packetSizeBytes, fewest, showBytes(heapSizeBytes), ...cells]
  })
  lines.sort((a, b) => a[0] - b[0] || a[1] - b[1])
  const three = (name) => [name, '+ 1', '+ 2']
  return table(['≤', 'packets', 'heap', ...['sender', 'receiver', 'receiver, GRO'].flatMap(three)], lines)
}

const { values: options } = parseArgs({
  options: {
    repeats: { type: 'string', default: '5' },
    out: { type: 'string', default: at('.cache/bench/extra-packet.jsonl') },
    append: { type: 'boolean', default: false },
    'stop-after': { type: 'string', default: 'Infinity' },
    report: { type: 'boolean', default: false },
  },
})

/** Adds to `out` the rounds that it lacks. */
async function record(out) {
  const end = performance.now() + Number(options['stop-after']) * 1000
  const sides = await sidesOf()
  for (let round = 0; round < Number(options.repeats); round++)
    for (const packetSizeBytes of Object.keys(COUNTS).map(Number))
      for (const [side, open] of Object.entries(sides)) {
        const same = (row) => row.round === round && row.packetSizeBytes === packetSizeBytes && row.side === side
        if (out.rows.some(same)) continue
        if (performance.now() >= end) return UNFINISHED
        const rows = []
        await measure(open, { side, packetSizeBytes, round }, (row) => rows.push(row))
        for (const row of rows) out.add(row)
        process.stderr.write(`${side}, packets ≤ ${packetSizeBytes}, round ${round + 1} of ${options.repeats}\n`)
      }
  return 0
}

// Exit handlers remove the namespaces and end the programs.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(1))
if (!options.report) process.exitCode = await record(openRows(options.out, await describeMachine(), options))
console.log(report(readRows(options.out)))
