/**
 * Receives on a TCP port, and prints what came, what was told and the CPU time whenever a line comes on standard input, until that ends.
 *
 *     node receiver-crowd.program.js PORT
 */
import { createInterface } from 'node:readline'
import { openReceiver } from '#dist/src/receive/index.js'

const told: string[] = []
const receiver = await openReceiver({
  endpoints: `tcp://127.0.0.1:${process.argv[2]}`,
  deliver: false,
  onChange: (what) => void told.push(what),
})
const say = () => process.stdout.write(`${JSON.stringify({ ...receiver.stats(), told, cpuMicros: process.cpuUsage() })}\n`)
say()
for await (const _ of createInterface(process.stdin)) say()
await receiver.close()
