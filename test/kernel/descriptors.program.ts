/**
 * Opens streams with no descriptor left, one, two and so on until they are enough, and prints the code of each refusal, whether
 * descriptors were left open, and how many were enough. It runs under a limit of descriptors. Then changes the route below a
 * stream that has no descriptor left to ask about it, and gives some back. The argument has the options of the stream, and
 * commands of ip(8).
 */
import { spawnSync } from 'node:child_process'
import { closeSync, openSync, readdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { type BatchResult, ItemGroup, openStream, type SendError, type StreamOptions } from '#dist/src/index.js'
import { print } from '../support/print.js'

const { options, change } = JSON.parse(process.argv[2]!) as { options: StreamOptions; change: string[] }
const opened = () => readdirSync('/proc/self/fd').length
/** Takes all descriptors but some; returns how to give them back. */
function hoard(left: number): () => void {
  const held: number[] = []
  try {
    for (;;) held.push(openSync('/dev/null', 'r'))
  } catch {
    // none is left
  }
  for (let i = 0; i < left; i++) closeSync(held.pop()!)
  return () => {
    for (const fd of held) closeSync(fd)
  }
}

// Modules, and threads of the pool, are loaded once.
await (await openStream(options)).close()
await sleep(50)
const before = opened()
const codes: string[] = []
let enough = 0
for (let n = 0; enough === 0; n++) {
  const giveBack = hoard(n)
  try {
    const stream = await openStream(options)
    enough = n
    await stream.close()
  } catch (error) {
    codes.push((error as { code: string }).code ?? `${(error as Error).stack}`)
  }
  giveBack()
  await sleep(5)
}
await sleep(50)
const leaked = opened() - before

await using stream = await openStream(options)
const items = new ItemGroup().add({ id: 0x3300, name: 'samples', dtype: 'u1', shape: [7000] })
const batch = stream.createBatch({ items, heaps: 10 })
const send = async () => {
  await batch.free
  return stream.send(batch).then(
    ({ suspect }: BatchResult) => (suspect ? 'suspect' : 'sent'),
    (error: SendError) => error.outcome?.causes.map(({ errnoName }) => errnoName).join() ?? `${error}`,
  )
}
await send()
await sleep(100)
const calm = await send()
spawnSync('sh', ['-c', `(sleep 0.3; ${change.map((command) => `ip ${command}`).join('; ')}) >/dev/null 2>&1 &`])
const giveBack = hoard(0)
const during: string[] = []
for (const end = performance.now() + 1500; performance.now() < end; await sleep(5)) during.push(await send())
const { substreamsRejected } = stream.stats().states
giveBack()
await sleep(1500)
const healed: string[] = []
for (let i = 0; i < 20; i++, await sleep(20)) healed.push(await send())
const { states } = stream.stats()
print({
  codes: [...new Set(codes)],
  enough,
  leaked,
  calm,
  during: [...new Set(during.slice(-20))],
  substreamsRejected,
  healed: healed.slice(-5),
  states,
})
