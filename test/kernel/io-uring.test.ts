/** The same faults, met by io_uring: every test of these files once more. */
import { sendBy } from '../support/remote-stream.js'

sendBy('io_uring')
await import('./outcome.test.js')
await import('./mtu.test.js')
await import('./segmentation.test.js')
await import('./trouble.test.js')
await import('./wire.test.js')
await import('./link-local.test.js')
