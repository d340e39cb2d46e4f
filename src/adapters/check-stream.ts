import { shown } from '../checks.js'
import { ensure } from '../errors.js'
import { Stream } from '../stream/stream.js'

/** @throws ERR_SPEADCAST_CONFIG */
export function checkStream(call: string, stream: unknown): void {
  ensure(
    stream instanceof Stream,
    'ERR_SPEADCAST_CONFIG',
    () => `${call}: the stream is ${shown(stream)}; give one from openStream`,
  )
}
