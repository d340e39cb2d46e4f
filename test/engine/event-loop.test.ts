// The engine's tests again, with the event-loop driver stepping it.
import { eventLoopRig } from './event-loop.js'
import { driveWith } from './support.js'

driveWith(eventLoopRig)
await import('./engine.test.js')
