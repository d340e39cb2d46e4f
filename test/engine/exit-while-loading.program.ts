/** A process that starts a thread, an I/O thread or a receiver of ENDPOINT, and exits with 3 MILLISECONDS later. */
import { IoThread } from '#dist/src/index.js'
import { openReceiver } from '#dist/src/receive/index.js'

const [milliseconds, endpoint] = process.argv.slice(2)
if (endpoint) void openReceiver({ endpoints: endpoint })
else new IoThread()
setTimeout(() => process.exit(3), Number(milliseconds))
