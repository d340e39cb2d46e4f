// Shared by the programs that send with speadcast: the options that programs.mjs gives every program, and the tutorial's items.
import { parseArgs } from 'node:util'
import { ItemGroup } from 'speadcast'

/** Parses process.argv. @param more options of the program's own, as parseArgs takes them */
export function runArguments(more = {}) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      'heap-size': { type: 'string', default: '8192' },
      heaps: { type: 'string', default: '1000' },
      'warmup-heaps': { type: 'string', default: '0' },
      'packet-size': { type: 'string', default: '9000' },
      batches: { type: 'string', default: '4' },
      'batch-bytes': { type: 'string', default: String(512 * 1024) },
      ...more,
    },
  })
  const heapSize = Number(values['heap-size'])
  const warmup = Number(values['warmup-heaps'])
  const batchHeaps = Math.max(1, Math.floor(Number(values['batch-bytes']) / heapSize))
  if (warmup % batchHeaps !== 0) throw new Error(`--warmup-heaps must be a multiple of the ${batchHeaps} heaps of a batch`)
  // The warm-up comes in several calls, so that V8 has seen a call end before the clock runs.
  const warmupPart = batchHeaps * Math.ceil(warmup / batchHeaps / 8)
  const counts = { heaps: Number(values.heaps), warmup, warmupPart, batches: Number(values.batches), batchHeaps }
  return { values, positionals, heapSize, packetSize: Number(values['packet-size']), ...counts }
}

export const tutorialItems = (heapSize) =>
  new ItemGroup()
    .add({ id: 0x1600, name: 'timestamp', description: 'Index of the first sample', format: [['u', 48]] })
    .add({ id: 0x3300, name: 'adc_samples', description: 'ADC converter output', dtype: 'i1', shape: [heapSize] })

/** The part of a row that says which heaps were timed. */
export const timed = ({ heaps, warmup, heapSize }, seconds, { user, system }) => ({
  heaps,
  warmupHeaps: warmup,
  payloadBytes: heaps * heapSize,
  seconds,
  payloadBytesPerSecond: Math.round((heaps * heapSize) / seconds),
  cpuSeconds: (user + system) / 1e6,
})
