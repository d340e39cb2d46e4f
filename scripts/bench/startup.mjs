// From the start of a process to its first packet at the interface, over what bare node takes to start and end. In each round
// `node -e 0` and the newcomer's program (first-batch.mjs), with the I/O thread and inline, run in turn; first_packet.c has the
// clock.
import { mkdirSync } from 'node:fs'
import { $ } from 'zx'
import { at } from '../lib/process.mjs'
import { DESTINATION, PORT } from './blackhole.mjs'
import { median } from './statistics.mjs'
import { limitOf } from './targets.mjs'
import { table, verdict } from './text.mjs'

const WATCH = at('.cache/bench/first_packet')
const ROUNDS = 15
const LIMITS = { worker: limitOf('workerAddedMilliseconds'), inline: limitOf('inlineAddedMilliseconds') }

const quartiles = (values) => [0.25, 0.75].map((q) => values.toSorted((a, b) => a - b)[Math.round(q * (values.length - 1))])

async function watched(hole, command) {
  const seen = JSON.parse(await hole.run([WATCH, PORT, ...command]))
  if (seen.status !== 0) throw new Error(`${command.join(' ')} ended with status ${seen.status}`)
  return seen
}

export async function startup(hole) {
  mkdirSync(at('.cache/bench'), { recursive: true })
  await $`gcc -O2 -Wall -o ${WATCH} ${at('scripts/bench/first_packet.c')}`
  const program = (thread) => [process.execPath, at('scripts/bench/first-batch.mjs'), '--thread', thread, DESTINATION]
  const rounds = []
  // The first round only fills the page cache.
  for (let i = -1; i < ROUNDS; i++) {
    const bare = (await watched(hole, [process.execPath, '-e', '0'])).exitNanoseconds / 1e6
    const round = { bareMilliseconds: bare }
    for (const thread of Object.keys(LIMITS)) {
      const { firstPacketNanoseconds } = await watched(hole, program(thread))
      if (firstPacketNanoseconds === null) throw new Error(`no packet came of ${program(thread).join(' ')}`)
      round[`${thread}Milliseconds`] = firstPacketNanoseconds / 1e6
    }
    if (i >= 0) rounds.push(round)
  }
  const line = (what, values, limit) => {
    const show = [median(values), ...quartiles(values), Math.min(...values), Math.max(...values)].map((ms) => ms.toFixed(1))
    return [what, ...show, limit === undefined ? '' : `≤ ${limit}: ${verdict(median(values) <= limit)}`]
  }
  const over = (thread) => rounds.map((round) => round[`${thread}Milliseconds`] - round.bareMilliseconds)
  const bare = rounds.map((round) => round.bareMilliseconds)
  const head = ['ms', 'median', 'quartile 1', 'quartile 3', 'least', 'most', '']
  console.log(`process start to first packet, ${ROUNDS} rounds`)
  console.log(
    table(head, [
      line('node -e 0, start to end', bare),
      line('first packet, I/O thread, over it', over('worker'), LIMITS.worker),
      line('first packet, inline, over it', over('inline'), LIMITS.inline),
    ]),
  )
  const medians = Object.fromEntries(Object.keys(LIMITS).map((thread) => [`${thread}AddedMilliseconds`, median(over(thread))]))
  return { program: 'ours', rounds, bareMilliseconds: median(bare), ...medians }
}
