// Serves metrics, connects to itself, and has nothing left to do.
import { connect } from 'node:net'
import { metrics, serveMetrics } from 'speadcast/metrics'

const { url } = await serveMetrics(metrics([], { process: true }), { host: '127.0.0.1', port: 0 })
const socket = connect(Number(new URL(url).port), '127.0.0.1')
socket.unref()
socket.on('connect', () => console.log('connected'))
// The connection is made before the process has nothing left.
await new Promise((resolve) => setTimeout(resolve, 200))
