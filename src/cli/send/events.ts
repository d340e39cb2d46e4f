/** Tells what happens to the stream while it sends: on standard error, in the JSON stream, in the live view. */
import type { Stream, StreamEventKind } from '../../index.js'
import { note, say } from '../common/print.js'

/** Kinds that change a few times in a run. The others are for those who watch it. */
const SAID: readonly StreamEventKind[] = ['link', 'route', 'address', 'connection', 'device', 'recovery', 'lag', 'clock']

/** Resolves when the stream has ended and all is told. */
export async function tellEvents(stream: Stream): Promise<void> {
  for await (const { kind, ...facts } of stream.events()) {
    const line = `speadcast send: ${new Date(facts.time).toISOString()} ${facts.message}`
    if (SAID.includes(kind)) say(line, kind, facts)
    else note(line, kind, facts)
  }
}
