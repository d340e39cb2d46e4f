/** Leaves iterators waiting: of a stream that is closed, and of one that is not. */
import { openStream } from 'speadcast'

const [closed, open] = await Promise.all([openStream({ to: '127.0.0.1:9' }), openStream({ to: '127.0.0.1:9' })])
const read = async (events: AsyncIterable<object>, end: string) => {
  for await (const _ of events) console.log('an event')
  console.log(end)
}
void read(open.events(), 'never')
void read(closed.events(), 'closed')
await closed.close()
