import { checkBoolean, checkOptions, isInstance, shown } from '../checks.js'
import { ensure } from '../errors.js'
import { Stream } from '../stream/stream.js'

/** Returns what is wrong with the options of a writer's end; undefined: nothing. */
export function refusedEnd(options: { dropPartialSample?: boolean }): unknown {
  try {
    checkOptions('end', options, ['dropPartialSample'])
    checkBoolean('end', 'dropPartialSample', options.dropPartialSample)
    return undefined
  } catch (error) {
    return error
  }
}

/** Resolves when the stream takes a send, whatever others have queued meanwhile. */
export async function roomIn(stream: Stream): Promise<void> {
  while (!stream.hasRoom) await stream.ready
}

/** @throws ERR_SPEADCAST_CONFIG */
export function checkStream(call: string, stream: unknown): void {
  ensure(
    isInstance(stream, Stream),
    'ERR_SPEADCAST_CONFIG',
    () => `${call}: the stream is ${shown(stream)}; give one from openStream`,
  )
}
