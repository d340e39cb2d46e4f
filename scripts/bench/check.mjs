// Checks that the programs send what they claim (--check). In a short pass with segmentation before the interface every packet is
// captured; spead2 decodes them and finds the tutorial's heaps. The floor, node:dgram and ours send the same packets, byte for
// byte.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { at } from '../lib/process.mjs'
import { INTERFACE, PORT } from './blackhole.mjs'
import { batchHeaps, PROGRAMS, peerPython, runOptions } from './programs.mjs'
import { showBytes, table } from './text.mjs'

/** Runs capture.py around `body`. Returns the body's row and the capture. */
async function captured(hole, body) {
  const [command, ...args] = [...hole.prefix, peerPython(), at('scripts/bench/capture.py'), INTERFACE, String(PORT)]
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  let output = ''
  const closed = once(child, 'close')
  try {
    const ready = new Promise((resolve, reject) => {
      child.stdout.setEncoding('utf8').on('data', (text) => {
        output += text
        if (output.startsWith('ready\n')) resolve()
      })
      child.once('close', (code) => reject(new Error(`capture.py exited with ${code}`)))
    })
    await ready
    const row = await body()
    child.stdin.end()
    const [code] = await closed
    if (code !== 0) throw new Error(`capture.py exited with ${code}`)
    return { row, wire: JSON.parse(output.slice('ready\n'.length)) }
  } finally {
    child.kill('SIGKILL')
  }
}

const showSizes = (sizes) => {
  const all = Object.entries(sizes).map(([size, count]) => `${count} × ${size}`)
  return all.length > 4 ? `${all.length} sizes` : all.join(', ')
}

/** Prints a table. Returns a line for each mistake. */
export async function checkWire(hole, names, { sizes, packetSizes, batches }) {
  const commands = Object.fromEntries(await Promise.all(names.map(async (name) => [name, await PROGRAMS[name].prepare({})])))
  const wrong = []
  const lines = []
  await hole.segmentInSoftware(true)
  for (const packetSizeBytes of packetSizes)
    for (const heapSizeBytes of sizes) {
      // Uses every batch at least twice, and ends with a short one.
      const heaps = batchHeaps(heapSizeBytes) * (batches + 1) + (batchHeaps(heapSizeBytes) >> 1)
      const hashes = {}
      for (const name of names) {
        const options = { heapSizeBytes, packetSizeBytes, heaps, warmupHeaps: 0 }
        const args = runOptions({ ...options, batches: PROGRAMS[name].batches ?? batches })
        const { row, wire } = await captured(hole, async () => JSON.parse(await hole.run([...commands[name], ...args])))
        const point = `${name}, heaps of ${showBytes(heapSizeBytes)}, packets ≤ ${packetSizeBytes}`
        if (wire.wrong) wrong.push(`${point}: ${wire.wrong}`)
        if (wire.heaps !== heaps || wire.incompleteHeaps)
          wrong.push(`${point}: ${wire.heaps} of ${heaps} heaps decoded, ${wire.incompleteHeaps} incomplete`)
        for (const key of ['packets', 'udpBytes'])
          if (wire[key] !== row[key]) wrong.push(`${point}: ${row[key]} ${key} reported, ${wire[key]} captured`)
        hashes[name] = wire.sha256
        lines.push([
          name,
          showBytes(heapSizeBytes),
          packetSizeBytes,
          wire.heaps,
          wire.packets,
          wire.udpBytes,
          wire.sha256.slice(0, 12),
          showSizes(wire.sizes),
        ])
      }
      const alike = names.filter((name) => PROGRAMS[name].sameBytes)
      if (new Set(alike.map((name) => hashes[name])).size > 1)
        wrong.push(`heaps of ${showBytes(heapSizeBytes)}, packets ≤ ${packetSizeBytes}: ${alike.join(', ')} send different bytes`)
    }
  await hole.segmentInSoftware(false)
  console.log(table(['program', 'heap', 'packet ≤', 'heaps decoded', 'packets', 'UDP bytes', 'sha256', 'packets by size'], lines))
  return wrong
}
