// Sends at a set rate for as long as asked, with a fault a second, and compares at the end: each heap with its fate, memory with its start,
// the rate with the one that was set. `npm run soak -- --seconds 3600`; exit status 1 if anything is not as it should be.
import { writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { at } from './lib/process.mjs'
import { FAULTS } from './soak/faults.mjs'
import { openGround } from './soak/ground.mjs'
import { verdict } from './soak/verdict.mjs'

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '180' },
    /** Draws the same faults again. */
    seed: { type: 'string', default: String(Date.now() % 1e6) },
    /** Only these faults, by name, with commas between. */
    faults: { type: 'string', default: Object.keys(FAULTS).join() },
    /** Others use the CPUs meanwhile: memory and rates are told, and not judged. */
    beside: { type: 'boolean', default: false },
    /** Everything that both programs said. */
    log: { type: 'string' },
  },
})
const seconds = Number(values.seconds)
if (!(seconds >= 10)) throw new Error(`--seconds ${values.seconds}: a soak takes 10 s at least`)
const chosen = values.faults.split(',')
for (const name of chosen) if (!FAULTS[name]) throw new Error(`--faults ${name}: there are ${Object.keys(FAULTS).join(', ')}`)
console.log(`soak of ${seconds} s, seed ${values.seed}`)

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
function draws(seed) {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

const ground = openGround()
process.once('exit', ground.close)
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1))

const lines = { sender: [], receiver: [], faults: [] }
/** Starts one of the programs, and waits until its streams are open. */
async function start(where, program, fd, ...flags) {
  let opened
  const open = new Promise((resolve) => {
    opened = resolve
  })
  const running = ground.start(where, [...flags, at(`scripts/soak/${program}.mjs`)], fd, (line) => {
    if (line.kind === 'open') opened()
    lines[program].push(line)
  })
  await Promise.race([
    open,
    running.closed.then((code) => {
      throw new Error(`the ${program} ended with ${code}`)
    }),
  ])
  return running
}

const receiver = await start('b', 'receiver', 1)
const collections = []
const sender = await start('a', 'sender', 3, '--expose-gc', '--trace-gc')
sender.child.stdout.setEncoding('utf8').on('data', (text) => collections.push(text))
let ended = false
void sender.closed.then(() => {
  ended = true
})

const draw = draws(Number(values.seed))
const begun = Date.now()
const counts = Object.fromEntries(chosen.map((name) => [name, 0]))
await sleep(2000)
while (!ended && Date.now() - begun < seconds * 1000 - 2000) {
  const name = chosen[Math.floor(draw() * chosen.length)]
  const { begin, end } = FAULTS[name]
  const next = sleep(1000)
  const from = Date.now()
  begin({ ground, sender: sender.child })
  await sleep(50 + 300 * draw())
  end({ ground, sender: sender.child })
  counts[name]++
  lines.faults.push({ name, from, to: Date.now() })
  await next
}
await sleep(2000)
sender.child.kill('SIGTERM')
const how = { sender: await sender.closed }
await sleep(500)
receiver.child.kill('SIGTERM')
how.receiver = await receiver.closed
if (values.log) writeFileSync(values.log, JSON.stringify({ lines, collections: collections.join('') }))

const { report, wrong } = verdict(lines, collections.join(''), how, values.beside)
console.log(
  `faults: ${Object.entries(counts)
    .map(([name, n]) => `${name} ${n}`)
    .join(', ')}`,
)
for (const line of report) console.log(line)
for (const line of wrong) console.log(`WRONG: ${line}`)
process.exit(wrong.length > 0 ? 1 : 0)
