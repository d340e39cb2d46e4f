/**
 * Writes batches of 3 heaps × 5 packets into pcap files on a file system that has room for k packets and a piece of the next, for every k.
 * Must run in a mount namespace of its own; FOLDER is empty and is mounted over. Prints a Report a stream.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import { type BatchOutcome, type BatchResult, type CloseReport, ItemGroup, openStream, type SendError } from 'speadcast'
import { print } from '../support/print.js'

export interface Told {
  readonly result?: BatchResult
  readonly error?: { readonly code: string; readonly message: string; readonly outcome: BatchOutcome }
}
export interface Report {
  readonly thread: string
  readonly k: number
  /** By the batch that met the end, and by the next one. */
  readonly told: Told
  readonly later: Told
  readonly closed: CloseReport
  /** In base64. */
  readonly file: string
}

const PAGE = 4096
const folder = process.argv[2]!
const path = join(folder, 'heaps.pcap')
const mount = (options: string) => execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'speadcast-test', folder])

const plain = (sent: Promise<BatchResult>): Promise<Told> =>
  sent.then(
    (result) => ({ result }),
    ({ code, message, outcome }: SendError) => ({ error: { code, message, outcome } }),
  )

/** Opens a stream into an empty file and calls `full` before the batch is sent. */
async function run(thread: 'inline' | 'worker', full: () => void) {
  const stream = await openStream({
    to: '10.0.0.1+2:7148',
    backend: 'pcap',
    pcapPath: path,
    thread,
    packetSizeBytes: 6056,
    descriptors: 'none',
  })
  const items = new ItemGroup().add({ id: 0x3300, name: 'adc_samples', dtype: 'u1', shape: [30_000] })
  const batch = stream.createBatch<{ adc_samples: Uint8Array }>({ items, heaps: 3 })
  for (let j = 0; j < 3; j++) batch.heap(j).adc_samples.fill(j + 1)
  full()
  const told = await plain(stream.send(batch))
  await batch.free
  const later = await plain(stream.send(batch))
  const closed = await stream.close()
  const file = readFileSync(path)
  unlinkSync(path)
  return { told, later, closed, file }
}

/** Where each record of a pcap file ends, the header being the first. */
function recordEnds(file: Buffer): number[] {
  const ends = [24]
  for (let at = 24; at < file.length; ends.push(at)) at += 16 + file.readUInt32LE(at + 8)
  return ends
}

mount('size=1m')
const ends = recordEnds((await run('inline', () => {})).file).slice(0, 16)
for (const thread of ['inline', 'worker'] as const)
  for (const [k, end] of ends.entries()) {
    // A record is longer than a page, so whole pages can end within any of them.
    const { file, ...rest } = await run(thread, () => mount(`remount,size=${Math.ceil(end / PAGE) * PAGE}`))
    mount('remount,size=1m')
    const report: Report = { thread, k, ...rest, file: file.toString('base64') }
    print(report)
  }
