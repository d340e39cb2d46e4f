/** Reads captures by the library, from files that a test makes. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, onTestFinished } from 'vitest'
import { openReceiver, type ReceivedHeap, type ReceiverOptions, type ReceiveSummary } from '#dist/src/receive/index.js'

export const folder = mkdtempSync(join(tmpdir(), 'speadcast-pcap-'))
afterAll(() => rmSync(folder, { recursive: true }))
let files = 0
/** A path where nothing is. */
export const fresh = (): string => join(folder, `${files++}.pcap`)
export function file(bytes: Uint8Array): string {
  const path = fresh()
  writeFileSync(path, bytes)
  return path
}

interface Read {
  readonly heaps: ReceivedHeap[]
  readonly summary: ReceiveSummary
  readonly endpoints: readonly string[]
}
export async function read(pcap: Uint8Array | string, options: ReceiverOptions = {}): Promise<Read> {
  const receiver = await openReceiver({ pcapPath: typeof pcap === 'string' ? pcap : file(pcap), ...options })
  onTestFinished(() => void receiver.close())
  const heaps: ReceivedHeap[] = []
  for await (const heap of receiver) heaps.push(heap)
  return { heaps, summary: await receiver.done, endpoints: receiver.endpoints }
}
