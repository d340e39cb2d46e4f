/**
 * Attaches what is no handle of an open batch of this process, one form after the other, and prints what each is answered with.
 * `made` is a handle of another process. Ends with what the open batches hold, which nobody may have written to.
 */
import { isMainThread, parentPort, Worker } from 'node:worker_threads'
import { attachBatch, type BatchHandle, ItemGroup, openStream } from '#dist/src/index.js'
import { print } from '../support/print.js'

type Samples = { a: Uint8Array }

/** Writes through the views if it gets any, as a user of a good handle would. */
function answer(handle: unknown): string {
  try {
    const views = attachBatch(handle as BatchHandle<Samples>)
    for (let j = 0; j < views.heaps; j++) views.heap(j).a.fill(0xee)
    views.immediate('t').fill(7)
    return 'attached'
  } catch (error) {
    const { code, message } = error as { code?: string; message: string }
    return `${code}: ${message}`
  }
}

const changed = (handle: BatchHandle): [string, unknown][] => {
  const forms: [string, unknown][] = []
  /** Every number and text at any depth, one at a time. */
  const visit = (node: unknown, path: string, rebuild: (value: unknown) => unknown): void => {
    if (typeof node === 'number')
      for (const [how, to] of [
        ['+1', node + 1],
        ['+4096', node + 4096],
        ['0x1000', 0x1000],
        ['huge', 2 ** 46],
        ['-1', -1],
        ['NaN', Number.NaN],
      ] as const)
        if (to !== node) forms.push([`${path} ${how}`, rebuild(to)])
    if (typeof node === 'string') forms.push([`${path} x`, rebuild(`${node}x`)], [`${path} empty`, rebuild('')])
    if (node instanceof Uint32Array) {
      forms.push([`${path} swapped`, rebuild(node.toReversed())])
      return
    }
    if (typeof node === 'object' && node !== null)
      for (const key of Object.keys(node))
        visit((node as Record<string, unknown>)[key], `${path}.${key}`, (value) =>
          rebuild(Array.isArray(node) ? node.with(Number(key), value) : { ...node, [key]: value }),
        )
  }
  visit(handle, 'handle', (value) => value)
  return forms
}

async function main(made: string) {
  const stream = await openStream({ to: ['127.0.0.1:9', '127.0.0.1:10'], backend: 'memory', descriptors: 'none' })
  const items = new ItemGroup()
    .add({ id: 0x1600, name: 't', shape: [], format: [['u', 48]] })
    .add({ id: 0x3300, name: 'a', dtype: 'u1', shape: [1000] })
  const create = () => stream.createBatch({ items, heaps: 4, groupMode: 'by-substream' })
  const [open, closed] = [create(), create()]
  const closedHandle = structuredClone(closed.handle())
  closed.close()
  const inPlace = create()
  const worker = new Worker(new URL(import.meta.url))
  const there = (handle: unknown): Promise<string> =>
    new Promise((resolve) => {
      worker.once('message', resolve)
      worker.postMessage(handle)
    })
  const handle = open.handle()
  const forms: [string, unknown][] = [
    ...[undefined, null, 0, -1, Number.NaN, 'x', true, 5n, {}, [], { heaps: 1 }].map((bad): [string, unknown] => [`${bad}`, bad]),
    ['another process', JSON.parse(made)],
    ['closed', closedHandle],
    ['without a loan', { ...handle, loan: undefined }],
    ['without slots', { ...handle, slots: undefined }],
    ['without items', { ...handle, items: [] }],
    ['the loan of another batch', { ...handle, loan: inPlace.handle().loan }],
    ['the memory of another batch', { ...handle, regions: inPlace.handle().regions }],
    ...changed(handle),
  ]
  const answers: Record<string, string[]> = {}
  for (const [name, form] of forms) answers[name] = [answer(form), await there(form)]
  for (const [name, form] of [
    ['a symbol', Symbol('s')],
    ['a function', () => 1],
    [
      'getters that throw',
      Object.defineProperty({ ...handle }, 'regions', {
        get: () => {
          throw new Error('mine')
        },
      }),
    ],
    [
      'a proxy',
      new Proxy(
        {},
        {
          get: () => {
            throw new Error('mine')
          },
        },
      ),
    ],
  ] as const)
    answers[name] = [answer(form)]
  const bytes = (batch: typeof open) => [0, 1, 2, 3].every((j) => batch.heap(j).a.every((byte) => byte === 0))
  print({
    answers,
    untouched: bytes(open) && bytes(inPlace),
    good: await there(structuredClone(handle)),
    written: open.heap(3).a[999],
  })
  await worker.terminate()
  await stream.close()
}

if (!isMainThread) parentPort!.on('message', (handle) => parentPort!.postMessage(answer(handle)))
else if (process.argv[2] === 'make') {
  const stream = await openStream({ to: '127.0.0.1:9', backend: 'memory' })
  const items = new ItemGroup().add({ id: 0x1600, name: 't', shape: [], format: [['u', 48]] })
  items.add({ id: 0x3300, name: 'a', dtype: 'u1', shape: [1000] })
  print(stream.createBatch({ items, heaps: 4 }).handle())
} else await main(process.argv[2]!)
