/** Receives on an endpoint, from an interface: `node receiver-interface.program.js ENDPOINT INTERFACE`. */
import { openReceiver } from '#dist/src/receive/index.js'

const [endpoints = '', name = ''] = process.argv.slice(2)
await openReceiver({ endpoints, interface: name, timeoutSeconds: 20 })
process.stdout.write('listening\n')
