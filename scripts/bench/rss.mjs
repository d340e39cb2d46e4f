// Memory of a process that keeps sending 4 batches of 64 × 8 KiB, over that of a `node` that does nothing, in turn. Resident and
// proportional set of smaps_rollup(proc(5)), with huge pages of hugetlbfs, which those two leave out.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { at } from '../lib/process.mjs'
import { DESTINATION } from './blackhole.mjs'
import { median } from './statistics.mjs'
import { limitOf } from './targets.mjs'
import { table, verdict } from './text.mjs'

const ROUNDS = 5
const SECONDS = 3
const LIMIT_MEGABYTES = limitOf('addedMegabytes')

const kilobytes = (text, name) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0) * 1024

function memoryOf(pid) {
  const smaps = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
  const hugetlb = kilobytes(smaps, 'Private_Hugetlb') + kilobytes(smaps, 'Shared_Hugetlb')
  return {
    rssBytes: kilobytes(smaps, 'Rss') + hugetlb,
    pssBytes: kilobytes(smaps, 'Pss') + hugetlb,
    peakBytes: kilobytes(readFileSync(`/proc/${pid}/status`, 'utf8'), 'VmHWM') + hugetlb,
  }
}

/** Memory of a process after some seconds; then it is asked to end. */
async function measured(hole, command) {
  const [program, ...args] = [...hole.prefix, ...command]
  const child = spawn(program, args, { stdio: ['ignore', 'inherit', 'inherit'] })
  const ended = once(child, 'exit')
  try {
    await sleep(SECONDS * 1000)
    if (child.exitCode !== null) throw new Error(`${command.join(' ')} ended with status ${child.exitCode}`)
    return memoryOf(child.pid)
  } finally {
    child.kill()
    const late = setTimeout(() => child.kill('SIGKILL'), 5000)
    await ended
    clearTimeout(late)
  }
}

export async function rss(hole) {
  const idle = [process.execPath, '-e', 'setInterval(() => {}, 1e6)']
  const sender = (thread) => [
    process.execPath,
    at('scripts/bench/first-batch.mjs'),
    '--batches',
    4,
    '--thread',
    thread,
    DESTINATION,
  ]
  const rounds = []
  for (let i = 0; i < ROUNDS; i++)
    rounds.push({
      bare: await measured(hole, idle),
      worker: await measured(hole, sender('worker')),
      inline: await measured(hole, sender('inline')),
    })
  const megabytes = (who, what) => median(rounds.map((round) => round[who][what])) / 1e6
  const added = (who, what) => median(rounds.map((round) => round[who][what] - round.bare[what])) / 1e6
  const fields = ['rssBytes', 'pssBytes', 'peakBytes']
  const row = (name, value, who) => [name, ...fields.map((field) => value(who, field).toFixed(1))]
  const rssAdded = added('worker', 'rssBytes')
  console.log(`memory in steady sending, 4 batches of 512 KiB, ${ROUNDS} rounds`)
  console.log(
    table(
      ['MB', 'resident', 'proportional', 'peak resident'],
      [
        row('node that waits', megabytes, 'bare'),
        row('I/O thread, over it', added, 'worker'),
        row('inline, over it', added, 'inline'),
      ],
    ),
  )
  console.log(`resident memory over node (≤ ${LIMIT_MEGABYTES} MB: ${verdict(rssAdded <= LIMIT_MEGABYTES)})`)
  return { program: 'ours', rounds, addedMegabytes: rssAdded, inlineAddedMegabytes: added('inline', 'rssBytes') }
}
