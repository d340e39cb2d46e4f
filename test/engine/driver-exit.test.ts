/** How a process with a stream ends: when what it sent is sent, not before; by itself, and at once when it is told to. */
import { describe, expect, test } from 'vitest'
import { nativeCallsWork } from '#dist/ffi/libc.js'
import { dist, runModule } from '../support/child.js'
import { need } from '../support/need.js'

/** A process with a stream and two batches of 100 heaps; `report` prints an object. It is killed if it has not ended in ten seconds. */
function child(options: string, body: string) {
  return runModule(`
    import { Heap, ItemGroup, openStream } from ${dist('src/index.js')}
    const report = (value) => console.log(JSON.stringify(value))
    const stream = await openStream({ to: '127.0.0.1:9', descriptors: 'none', ${options} })
    const items = new ItemGroup().add({ id: 0x3300, name: 'adc', dtype: '|u1', shape: [1000] })
    const batches = [1, 2].map(() => stream.createBatch({ items, heaps: 100 }))
    process.on('exit', (code) => report({ code, sent: stream.stats().heapsSent, inFlight: stream.stats().inFlight }))
    ${body}`)
}

const ended = (stdout: string) =>
  stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))

const DRIVERS = [
  { what: 'event loop, memory', options: "backend: 'memory'", native: false },
  { what: 'event loop, dgram', options: "backend: 'dgram'", native: false },
  { what: 'event loop, udp', options: "backend: 'udp', thread: 'inline'", native: true },
  { what: 'I/O thread, udp', options: "backend: 'udp', thread: 'worker'", native: true },
  { what: 'I/O thread, pcap', options: "backend: 'pcap', thread: 'worker', pcapPath: '/dev/null'", native: true },
]
// 105 kB a batch: a tenth of a second each.
const PACED = 'rate: 1_000_000, burstBytes: 2000,'

describe.for(DRIVERS)('$what', ({ options, native }) => {
  const run = (ctx: { skip(note?: string): never }, body: string, more = '') => {
    need(ctx, !native || (process.platform === 'linux' && nativeCallsWork()), 'udp is for Linux')
    return child(`${options}, ${more}`, body)
  }

  test('an idle stream keeps nobody alive, opened just now or after sending', async (ctx) => {
    const fresh = await run(ctx, '')
    expect(fresh).toMatchObject({ code: 0, signal: null, stderr: '' })
    expect(ended(fresh.stdout)).toEqual([{ code: 0, sent: 0, inFlight: 0 }])
    const used = await run(
      ctx,
      'await stream.send(batches[0]); await batches[0].free; await new Promise((r) => setTimeout(r, 100))',
    )
    expect(used).toMatchObject({ code: 0, signal: null, stderr: '' })
    expect(ended(used.stdout)).toEqual([{ code: 0, sent: 100, inFlight: 0 }])
  })

  test('sends that nobody waits for are sent before the process ends', async (ctx) => {
    for (const more of ['', PACED]) {
      const { stdout, ...end } = await run(ctx, 'for (const batch of batches) stream.send(batch)', more)
      expect(end).toEqual({ code: 0, signal: null, stderr: '' })
      expect(ended(stdout)).toEqual([{ code: 0, sent: 200, inFlight: 0 }])
    }
  })

  test('a top-level await of a send, of free, of flush and of close comes back', async (ctx) => {
    const { stdout, ...end } = await run(
      ctx,
      `report({ heaps: (await stream.send(batches[0])).heaps })
       stream.send(batches[1])
       await batches[1].free
       stream.send(batches[1])
       await stream.flush()
       stream.send(batches[0])
       report(await stream.close())`,
      PACED,
    )
    expect(end).toEqual({ code: 0, signal: null, stderr: '' })
    expect(ended(stdout)).toEqual([{ heaps: 100 }, { droppedHeaps: 0 }, { code: 0, sent: 400, inFlight: 0 }])
  })

  test('after a close with a deadline nothing is left running', async (ctx) => {
    const { stdout, ...end } = await run(
      ctx,
      `for (const batch of batches) stream.send(batch)
       const { droppedHeaps } = await stream.close({ deadlineSeconds: 0.05 })
       report({ total: droppedHeaps + stream.stats().heapsSent })`,
      PACED,
    )
    expect(end).toEqual({ code: 0, signal: null, stderr: '' })
    expect(ended(stdout)[0]).toEqual({ total: 200 })
  })

  test('process.exit keeps its code, idle or in the middle of sending', async (ctx) => {
    const idle = await run(ctx, 'process.exit(7)')
    expect(idle).toMatchObject({ code: 7, signal: null, stderr: '' })
    // All of it would take three minutes.
    const busy = await run(
      ctx,
      'for (const batch of batches) stream.send(batch); setTimeout(() => process.exit(8), 50)',
      'rate: 1000, burstBytes: 1000',
    )
    expect(busy).toMatchObject({ code: 8, signal: null, stderr: '' })
    // Fewer batches may be told as sent than went, never more, and the end waited for none of the rest.
    expect(ended(busy.stdout)[0].sent).toBeLessThan(200)
  })

  test('an uncaught error ends the process', async (ctx) => {
    const { code, signal, stderr } = await run(
      ctx,
      "for (const batch of batches) stream.send(batch); setTimeout(() => { throw new Error('on purpose') }, 50)",
      PACED,
    )
    expect({ code, signal }).toEqual({ code: 1, signal: null })
    expect(stderr).toContain('on purpose')
  })

  test('destroyed in the middle, it ends, and a dropped promise is no unhandled rejection', async (ctx) => {
    const { stdout, ...end } = await run(ctx, 'for (const batch of batches) stream.send(batch); await stream.destroy()', PACED)
    expect(end).toEqual({ code: 0, signal: null, stderr: '' })
    expect(ended(stdout)[0].inFlight).toBe(0)
  })
})
