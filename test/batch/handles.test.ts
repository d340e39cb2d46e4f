/** What attachBatch takes for a handle, and what becomes of the memory of a batch that is closed while threads have it attached. */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { beforeEach, expect, onTestFinished, test } from 'vitest'
import { nativeCallsWork } from '#dist/ffi/libc.js'
import { attachBatch, type Batch, type BatchHandle } from '#dist/src/index.js'
import { need } from '../support/need.js'
import { programFile, runProgram } from '../support/program.js'
import { groupOf, memoryStream, rawBytes, samples, timestamp } from './support.js'

beforeEach((ctx) => need(ctx, nativeCallsWork(), 'ordinary buffers, which regions are here, do not cross to threads'))

const STATE = expect.objectContaining({ code: 'ERR_SPEADCAST_BATCH_STATE' })

test('what is no handle of an open batch here has an answer of ours, and nobody’s memory is touched', async () => {
  const made = (await runProgram('batch/handles', 'make')).stdout.trim()
  const { code, signal, stdout } = await runProgram('batch/handles', made)
  expect({ code, signal }).toEqual({ code: 0, signal: null })
  const { answers, untouched, good, written } = JSON.parse(stdout) as {
    answers: Record<string, string[]>
    untouched: boolean
    good: string
    written: number
  }
  // 11 kinds of garbage, and every number and text of a handle in several ways.
  expect(Object.keys(answers).length).toBeGreaterThan(100)
  const coded = /^ERR_SPEADCAST_(CONFIG|BATCH_STATE): attachBatch: /
  expect(Object.entries(answers).filter(([, said]) => !said.every((text) => coded.test(text)))).toEqual([])
  expect(answers['another process']![0]).toMatch(/is of process \d+, and this is process \d+: share a file by Region\.fromFd/)
  expect(answers.closed![1]).toMatch(/was changed, or its batch was closed: /)
  expect({ untouched, good, written }).toEqual({ untouched: true, good: 'attached', written: 0xee })
})

const HEAPS = 4
async function batchOf(bytes: number): Promise<() => Batch> {
  const stream = await memoryStream()
  const items = groupOf([timestamp(), samples('adc', '|u1', [bytes])])
  return () => stream.createBatch({ items, heaps: HEAPS })
}

/** A thread that attaches what it is told, fills all of it with a byte when told so, and closes its views. */
function attacher(): { worker: Worker; ask(what: unknown): Promise<unknown> } {
  const worker = new Worker(programFile('batch/attach'))
  onTestFinished(async () => void (await worker.terminate()))
  const ask = async (what: unknown) => {
    const answer = once(worker, 'message', { signal: AbortSignal.timeout(10_000) })
    worker.postMessage(what)
    return (await answer)[0]
  }
  return { worker, ask }
}

/** Makes batches of that size until one gets the bytes of the handle's; whether one did, and whether any has bytes of `byte`. */
function takers(create: () => Batch, handle: BatchHandle, byte: number): { again: boolean; written: boolean } {
  const batches = Array.from({ length: 12 }, create)
  const again = batches.some((batch) => batch.handle().regions[0]!.address === handle.regions[0]!.address)
  const written = batches.some((batch) =>
    Array.from({ length: HEAPS }, (_, j) => rawBytes(batch.heap(j).adc!)).some((b) => b.includes(byte)),
  )
  for (const batch of batches) batch.close()
  return { again, written }
}

// A part of a huge page that batches share; pages of its own.
test.for([20_000, 1 << 20])(
  'a batch of %i bytes a heap that is closed while attached: its addresses are nobody else’s',
  async (bytes) => {
    const create = await batchOf(bytes)
    const { worker, ask } = attacher()
    const neighbour = create()
    const batch = create()
    const handle = batch.handle()
    expect(await ask(handle)).toBe('attached')
    batch.close()
    expect(() => attachBatch(handle)).toThrow(STATE)
    expect(await ask(handle)).toMatch(/^ERR_SPEADCAST_BATCH_STATE: .*closed/)
    expect(await ask(0xab)).toBe('filled')
    expect(takers(create, handle, 0xab)).toEqual({ again: false, written: false })
    expect(rawBytes(neighbour.heap(0).adc!).includes(0xab)).toBe(false)
    expect(await ask(0xab)).toBe('filled')
    expect(await ask('close')).toBe('closed')
    expect(await ask(0xab)).toMatch(/^ERR_SPEADCAST_BATCH_STATE: .*views are closed/)
    expect(takers(create, handle, 0xab).written).toBe(false)
    void worker
  },
)

test('its addresses are free again when the views are closed, or their thread ended', async () => {
  // A region of its own, on ordinary pages: parts of a huge page are handed out again with the whole, and reserved ones come and go.
  const create = await batchOf(12_000)
  for (const how of ['close', 'end'] as const) {
    const { worker, ask } = attacher()
    const batch = create()
    const handle = batch.handle()
    await ask(handle)
    batch.close()
    expect(takers(create, handle, 0xab).again).toBe(false)
    if (how === 'close') await ask('close')
    else await worker.terminate()
    // The first allocation gives it back, so that the next may have it.
    expect([1, 2].map(() => takers(create, handle, 0xab).again)).toContain(true)
  }
})

test('a thread may attach a batch again and again; each closes its own', async () => {
  const create = await batchOf(12_000)
  const batch = create()
  const handle = batch.handle()
  expect(batch.handle()).toEqual(handle)
  const all = Array.from({ length: 300 }, () => attachBatch(handle))
  for (const views of all.slice(1)) {
    views.close()
    views.close()
  }
  all[0]!.heap(3).adc!.fill(3)
  expect(batch.heap(3).adc![0]).toBe(3)
  batch.close()
  expect(takers(create, handle, 0xab).again).toBe(false)
  all[0]!.close()
  expect(() => all[0]!.heap(3)).toThrow(STATE)
  expect(() => all[0]!.immediate('t')).toThrow(STATE)
  expect([1, 2].map(() => takers(create, handle, 0xab).again)).toContain(true)
  expect(() => batch.handle()).toThrow(STATE)
})

test('thousands of batches with handles, open at once and one after the other', async () => {
  const create = await batchOf(8)
  const many = Array.from({ length: 2100 }, () => create())
  for (const batch of many) expect(attachBatch(structuredClone(batch.handle())).heaps).toBe(HEAPS)
  expect(new Set(many.map((batch) => batch.handle().loan.table)).size).toBeGreaterThan(1)
  for (const batch of many) batch.close()
})
