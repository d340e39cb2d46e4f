/**
 * Sends samples that another process writes into shared memory, from there, without a copy. The other one is shared_memory.py. It waits for
 * a place in the memory, fills it and says so; the place is its own again when its heaps have been sent. Half-way it is killed, and another
 * one goes on after the last place that was said to be full, because what lies in the next one may be half of old and half of new.
 *
 *     $ npx tsx docs/examples/shared-memory.ts
 *     the writer ended by SIGKILL when it had filled … places; another goes on
 *     60 places, 960 heaps: 7864320 of 7864320 samples are right
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, ftruncateSync, openSync, unlinkSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { ItemGroup, openStream, Region } from 'speadcast'
import { openReceiver } from 'speadcast/receive'

const [to = '127.0.0.1:7224'] = process.argv.slice(2)
const fills = 60
const places = 4
const heaps = 16 // of a place
const heapSamples = 8192
const placeBytes = heaps * heapSamples * 2

// POSIX shared memory without a name, so that nothing is left of it when its processes have ended. Memory that another process has made
// is opened by its name, /dev/shm/NAME; its memfd as /proc/PID/fd/FD.
const path = `/dev/shm/speadcast-example-${process.pid}`
const fd = openSync(path, 'wx+', 0o600)
unlinkSync(path)
ftruncateSync(fd, places * placeBytes)
const region = Region.fromFd(fd)

await using receiver = await openReceiver({ endpoints: to })
await using stream = await openStream({ to, packetSizeBytes: 8972, rate: '400Mbps' })
const items = new ItemGroup()
  .add({ id: 0x1600, name: 'timestamp', description: 'Index of the first sample', format: [['u', 48]] })
  .add({ id: 0x3300, name: 'adc_samples', description: 'ADC converter output', dtype: '<i2', shape: [heapSamples] })
const batches = Array.from({ length: places }, (_, place) =>
  stream.createBatch({ items, heaps, memory: { adc_samples: { region, offsetBytes: place * placeBytes } } }),
)

/** Starts a writer and sends what it fills. Returns how often a place has been filled when it ends. */
async function follow(first: number): Promise<number> {
  const script = fileURLToPath(new URL('shared_memory.py', import.meta.url))
  const args = [script, heaps * heapSamples, first, fills].map(String)
  const writer = spawn('python3', args, { stdio: ['pipe', 'pipe', 'inherit', fd] })
  const stdin = writer.stdin!
  const ended = once(writer, 'close')
  stdin.on('error', () => {}) // EPIPE: it has died, which `ended` says
  let filled = first
  for await (const line of createInterface({ input: writer.stdout! })) {
    const batch = batches[Number(line)]!
    batch.immediate('timestamp').setRamp(filled++ * heaps * heapSamples, heapSamples)
    stream.send(batch)
    batch.free.then(() => stdin.write(`${line}\n`))
    if (filled === fills / 2) writer.kill('SIGKILL')
  }
  const [code, signal] = await ended
  if (filled === first) throw new Error(`the writer filled nothing: ${signal ?? `exit ${code}`}`)
  if (filled < fills)
    console.log(`the writer ended by ${signal ?? `exit ${code}`} when it had filled ${filled} places; another goes on`)
  await stream.flush() // the next writer may write all places
  return filled
}

async function check(): Promise<string> {
  const seen = new Set<number>()
  let right = 0
  for await (const { items } of receiver) {
    const samples = items.get(0x3300)?.bytes
    if (!samples) continue
    const view = new DataView(samples.buffer, samples.byteOffset, samples.length)
    const timestamp = Number(items.get(0x1600)?.value)
    seen.add(timestamp)
    for (let k = 0; k < heapSamples; k++) if (view.getInt16(2 * k, true) === (timestamp + k) % 10007) right++
  }
  return `${seen.size} heaps: ${right} of ${seen.size * heapSamples} samples are right`
}

const checked = check()
for (let filled = 0; filled < fills; ) filled = await follow(filled)
closeSync(fd)
await stream.sendEnd()
console.log(`${fills} places, ${await checked}`)
