/**
 * Sends from threads placed as it is told, and prints as JSON how each of them is placed, what was sent, and the CPU time that a hog got
 * meanwhile on the same CPU.
 */
import { spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { ItemGroup, openStream, pinThread, type StreamOptions } from 'speadcast'
import { openReceiver, type ReceiverOptions } from 'speadcast/receive'

interface Told {
  readonly stream: Partial<StreamOptions>
  readonly receiver?: Partial<ReceiverOptions>
  readonly pin?: readonly number[]
  /** The CPU of a hog. */
  readonly hog?: number
  readonly batches: number
}

const { stream: options, receiver: receiverOptions, pin, hog, batches }: Told = JSON.parse(process.argv[2]!)

/** Fields of proc_pid_stat(5), counted from 1. */
const fieldsOf = (path: string): string[] => [
  '',
  '',
  ...readFileSync(path, 'latin1')
    .replace(/^.*\) /s, ' ')
    .split(' '),
]
const UTIME = 14
const NICE = 19
const RT_PRIORITY = 40
const POLICY = 41

interface Placed {
  readonly name: string
  readonly nice: number
  readonly policy: number
  readonly level: number
  readonly cpus: string
}

function threads(): Placed[] {
  return readdirSync('/proc/self/task').map((id) => {
    const task = `/proc/self/task/${id}`
    const fields = fieldsOf(`${task}/stat`)
    return {
      name: Number(id) === process.pid ? 'main' : readFileSync(`${task}/comm`, 'latin1').trim(),
      nice: Number(fields[NICE]),
      policy: Number(fields[POLICY]),
      level: Number(fields[RT_PRIORITY]),
      cpus: /^Cpus_allowed_list:\s*(.*)$/m.exec(readFileSync(`${task}/status`, 'latin1'))![1]!,
    }
  })
}

const child = hog === undefined ? undefined : spawn('taskset', ['-c', `${hog}`, process.execPath, '-e', 'for (;;);'])
const hogTicks = (): number => (child ? Number(fieldsOf(`/proc/${child.pid}/stat`)[UTIME]) : 0)
while (child && hogTicks() < 20) await new Promise((resolve) => setTimeout(resolve, 20))

if (pin) pinThread(pin)
const receiver = await openReceiver({ endpoints: '127.0.0.1:7963', timeoutSeconds: 50, hash: true, ...receiverOptions })
const stream = await openStream({ to: '127.0.0.1:7963', backend: 'udp', descriptors: 'none', ...options })
const items = new ItemGroup().add({ id: 0x3300, name: 'adc_samples', dtype: 'i1', shape: [1024] })
const batch = stream.createBatch({ items, heaps: 8 })
const before = hogTicks()
let heaps = 0
for (let i = 0; i < batches; i++) {
  await batch.free
  batch.heap(0).adc_samples.fill(i)
  heaps += (await stream.send(batch)).heaps
}
// The kernel counts in hundredths of a second.
while (child && hogTicks() < before + 5) {
  await batch.free
  heaps += (await stream.send(batch)).heaps
}
const placed = threads()
await stream.sendEnd()
const received = (await receiver.done).heaps
await stream.close()
child?.kill()
console.log(JSON.stringify({ heaps, received, threads: placed.filter(({ name }) => /^main$|^speadcast/.test(name)) }))
