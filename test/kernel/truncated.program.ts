/**
 * The file behind one batch's samples is made shorter than its second half while a batch of other memory waits behind it. Prints
 * what became of each, and of the same batch when the file is as long as before. The argument has the stream's options.
 */
import { closeSync, ftruncateSync, openSync, unlinkSync } from 'node:fs'
import { ItemGroup, openStream, Region, type SendError, type StreamOptions } from '#dist/src/index.js'
import { print } from '../support/print.js'

const HEAPS = 8
const BYTES = 16384
const file = `/dev/shm/speadcast-truncated-${process.pid}`
const fd = openSync(file, 'w+')
unlinkSync(file)
ftruncateSync(fd, HEAPS * BYTES)
const region = Region.fromFd(fd)
await using stream = await openStream(JSON.parse(process.argv[2]!) as StreamOptions)
const items = new ItemGroup().add({ id: 0x3300, name: 'samples', dtype: 'u1', shape: [BYTES] })
const mapped = stream.createBatch({ items, heaps: HEAPS, memory: { samples: { region } } })
const healthy = stream.createBatch({ items, heaps: HEAPS })
const told = (sent: Promise<unknown>) =>
  sent.then(
    () => ({ heaps: Array(HEAPS).fill('sent') }),
    (error: SendError) => ({ heaps: error.outcome.heaps, message: error.message }),
  )
const whole = await told(stream.send(mapped))
await mapped.free
ftruncateSync(fd, (HEAPS / 2) * BYTES)
const [gone, behind] = await Promise.all([told(stream.send(mapped)), told(stream.send(healthy))])
await healthy.free
const later = await told(stream.send(healthy))
await mapped.free
ftruncateSync(fd, HEAPS * BYTES)
const mended = await told(stream.send(mapped))
closeSync(fd)
print({ udpPath: stream.stats().states.udpPath, whole, gone, behind, later, mended })
