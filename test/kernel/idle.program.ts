/**
 * An idle stream of BACKEND to TO, behind v0, which ROUTE then leads elsewhere, while the network namespace changes. Prints how
 * often its I/O thread woke meanwhile, and what the stream learnt.
 */
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { openStream, type PathChange } from 'speadcast'
import { print } from '../support/print.js'

const ip = (command: string) => execFileSync('ip', command.split(' '))

/** Voluntary switches of the I/O threads (proc_pid_status(5)). */
function wakeUps(): number {
  let sum = 0
  for (const id of readdirSync('/proc/self/task')) {
    const read = (file: string) => readFileSync(`/proc/self/task/${id}/${file}`, 'latin1')
    if (read('comm').startsWith('speadcast')) sum += Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(read('status'))![1])
  }
  return sum
}

/** Wake-ups in so many seconds, while work that may take longer is done and after it. */
async function during(seconds: number, work = () => {}): Promise<number> {
  const before = wakeUps()
  const from = performance.now()
  work()
  await sleep(seconds * 1000)
  return Math.round(((wakeUps() - before) * seconds * 1000) / (performance.now() - from))
}

const warnings: string[] = []
process.on('warning', ({ message }) => warnings.push(message))
const told: { changes: number; what: string; interface: unknown }[] = []
const onPathChange = ({ changes, what, states }: PathChange) => {
  told.push({ changes, what, interface: states.interface })
  throw new Error('thrown by the listener')
}
const [backend, to, route] = process.argv.slice(2) as ['udp' | 'ibverbs', string, string]
const stream = await openStream({ to, backend, descriptors: 'none', onPathChange })
await sleep(300)
const calm = await during(2)
// A host with routes that come and go, and neighbours that answer.
const busy = await during(2, () => {
  for (let i = 0; i < 100; i++) ip(`route add 172.16.${i}.0/24 via 10.77.0.2`)
  for (let i = 3; i < 60; i++) ip(`neigh add 10.77.0.${i} lladdr 02:00:00:00:00:09 dev v0`)
})
const before = stream.stats().states.interface
ip(`route replace ${route}`)
for (let i = 0; i < 200 && stream.stats().states.pathChanges === 0; i++) await sleep(10)
const { interface: after, pathChanges: changes, device } = stream.stats().states
const later = await during(2)
await stream.close()
print({ calm, busy, before, after, changes, device, later, told, warnings })
