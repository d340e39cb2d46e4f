// The engine's tests again, with the event-loop driver stepping it.

import { driveWith } from '../support/engine-rig.js'
import { eventLoopRig } from './event-loop.js'

driveWith(eventLoopRig)
await import('./engine.test.js')
