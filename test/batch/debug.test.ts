/** Debug mode says when a batch was written while it was under way; nothing else makes it speak. */
import { describe, expect, onTestFinished, test } from 'vitest'
import { Region } from '#dist/ffi/memory/region.js'
import type { Batch, Stream } from '#dist/src/index.js'
import { fill, filled, groupOf, memoryStream, rawBytes, samples, timestamp } from './support.js'

const ITEMS = [timestamp(), samples('adc', '<i2', [1000]), samples('power', '<f4', [12])]

/** Codes of the process's warnings, as they come. */
function warnings(): string[] {
  const codes: string[] = []
  const listen = (warning: Error & { code?: string }) => codes.push(warning.code ?? warning.name)
  process.on('warning', listen)
  onTestFinished(() => void process.off('warning', listen))
  return codes
}

interface Held {
  readonly stream: Stream
  /** Sends and does something while nothing of it has gone out yet. */
  during(batch: Batch, action: () => void, heaps?: number): Promise<void>
}

async function held(options = {}): Promise<Held> {
  let shut = false
  const failAt = () => (shut ? ({ errno: 11, how: 'again' } as const) : undefined)
  const stream = await memoryStream({ debug: true, memory: { failAt, pauseNanoseconds: 1e5 }, ...options })
  return {
    stream,
    async during(batch, action, heaps = batch.heaps) {
      shut = true
      const sent = stream.send(batch, { heaps })
      await new Promise((resolve) => setTimeout(resolve, 3))
      expect(batch.state).toBe('in-flight')
      action()
      shut = false
      await sent
      // Warnings are emitted on the next tick.
      await new Promise(setImmediate)
    },
  }
}

describe('a write under way is noticed', () => {
  const writes: Record<string, (batch: Batch) => void> = {
    'a sample': (batch) => batch.heap(2).adc!.fill(77, 999),
    'a sample of the first heap': (batch) => batch.heap(0).adc!.fill(77, 0, 1),
    'another item': (batch) => batch.heap(1).power!.fill(4, 11),
    'a staged number': (batch) => batch.immediate('timestamp').fill(5, 2, 3),
    'a cnt': (batch) => batch.cnts.fill(7, 2, 3),
    'samples in another order': (batch) => batch.heap(1).adc!.reverse(),
  }
  test.for(Object.entries(writes))('%s', async ([, write]) => {
    for (const options of [{}, { descriptors: 'in-band' }, { packetSizeBytes: 8972 }, { thread: 'inline' }]) {
      const { during, stream } = await held(options)
      const batch = filled(stream, ITEMS, 3, 'round-robin')
      const codes = warnings()
      await during(batch, () => {})
      expect(codes).toEqual([])
      await during(batch, () => write(batch))
      expect(codes).toEqual(['SPEADCAST_OVERWRITE'])
      // Once it is free it may be written.
      write(batch)
      await during(batch, () => {})
      expect(codes).toEqual(['SPEADCAST_OVERWRITE'])
    }
  })

  test('in memory of the user, whoever writes', async () => {
    const { during, stream } = await held()
    const region = Region.allocate(3 * 2000)
    const batch = stream.createBatch({ items: groupOf(ITEMS), heaps: 3, memory: { adc: { region } } })
    fill(batch, ITEMS)
    const codes = warnings()
    await during(batch, () => {})
    expect(codes).toEqual([])
    await during(batch, () => new Uint8Array(region.buffer).fill(1, 5999, 6000))
    expect(codes).toEqual(['SPEADCAST_OVERWRITE'])
  })
})

test('reading is no write, nor is what the stream itself puts into headers, nor another batch', async () => {
  const codes = warnings()
  const { during, stream } = await held({ descriptors: 'in-band', packetSizeBytes: 500 })
  const [batch, other] = [filled(stream, ITEMS, 4, 'round-robin'), filled(stream, ITEMS, 4)]
  batch.immediate('timestamp').setRamp(5, 5)
  for (const heaps of [4, 2, 3, 1])
    await during(
      batch,
      () => {
        for (const view of batch.item('adc')) rawBytes(view!).slice()
        batch.immediate('timestamp').slice()
        for (const view of other.item('adc')) rawBytes(view!).fill(heaps)
      },
      heaps,
    )
  expect(codes).toEqual([])
})

test('without debug nothing is said', async () => {
  const codes = warnings()
  const { during, stream } = await held({ debug: false })
  const batch = filled(stream, ITEMS, 2)
  await during(batch, () => batch.heap(0).adc!.fill(1))
  expect(codes).toEqual([])
})
