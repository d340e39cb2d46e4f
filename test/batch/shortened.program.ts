/**
 * Sends a batch from a file that another then makes shorter, by the backend and with the options that it is told. Prints what the
 * next send says, and that one after the file has its size again.
 */
import { ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { ItemGroup, openStream, Region, type SendError, type StreamOptions } from '#dist/src/index.js'
import { print } from '../support/print.js'

const [backend, inWorker, debug, at] = process.argv.slice(2)
const folder = mkdtempSync('/dev/shm/speadcast-')
const fd = openSync(join(folder, 'file'), 'w+')
const pcapPath = join(folder, 'packets.pcap')
const BYTES = 4 * 8192
ftruncateSync(fd, BYTES)
const options: StreamOptions = {
  to: '127.0.0.1:7148',
  backend: backend as 'memory',
  descriptors: 'none',
  debug: debug === 'debug',
  ...(inWorker === 'worker' && { thread: 'worker' as const }),
  ...(backend === 'pcap' && { pcapPath }),
}
const stream = await openStream(options)
const region = Region.fromFd(fd)
const items = new ItemGroup().add({ id: 0x3300, name: 'adc', dtype: 'u1', shape: [8192] })
const create = () => stream.createBatch({ items, heaps: 4, memory: { adc: { region } } })
const batch = create()
const told = async (call: () => Promise<unknown>) => {
  try {
    await call()
    return 'sent'
  } catch (error) {
    const { code, message, outcome } = error as SendError
    return { code, message, heaps: outcome?.heaps }
  }
}
const first = await told(async () => stream.send(batch))
ftruncateSync(fd, Number(at))
const short = await told(async () => stream.send(batch))
const created = await told(async () => create())
ftruncateSync(fd, BYTES)
const again = await told(async () => stream.send(batch))
await stream.close().catch(() => undefined)
const pcapBytes = backend === 'pcap' ? readFileSync(pcapPath).length : 0
rmSync(folder, { recursive: true })
print({ first, short, created, again, pcapBytes })
