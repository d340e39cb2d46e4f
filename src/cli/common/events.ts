/** Tells what happens to a stream or a receiver while it runs: on standard error, in the JSON stream, in the live view. */
import { type MessageKind, note, say } from './print.js'

interface Told<Kind> {
  readonly time: number
  readonly kind: Kind
  readonly message: string
}

/** Resolves when the source has ended and all is told. @param said kinds that change a few times in a run; the others are for those who watch it */
export async function tellEvents<Kind extends MessageKind>(
  command: string,
  events: AsyncIterable<Told<Kind>>,
  said: readonly Kind[],
): Promise<void> {
  for await (const { kind, ...facts } of events) {
    const line = `speadcast ${command}: ${new Date(facts.time).toISOString()} ${facts.message}`
    if (said.includes(kind)) say(line, kind, facts)
    else note(line, kind, facts)
  }
}
