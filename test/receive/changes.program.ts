/**
 * Receives a GROUP, on interface ON if there is one, until COUNT events of its membership came. Prints each as the channel told it, and whether those
 * who iterate were told the same.
 */
import { subscribe } from 'node:diagnostics_channel'
import { openReceiver, type ReceiverEvent, type ReceiverMessages } from 'speadcast/receive'
import { print } from '../support/print.js'

const [group = '', count = '', on] = process.argv.slice(2)
const receiver = await openReceiver({
  endpoints: group,
  timeoutSeconds: 15,
  ...(on !== undefined && { interface: on }),
})
const published: ReceiverEvent[] = []
subscribe('speadcast:receiver:event', (message) => {
  const { receiver: of, event } = message as ReceiverMessages['speadcast:receiver:event']
  if (of === receiver) published.push(event)
})
console.error('listening')
const told: ReceiverEvent[] = []
for await (const event of receiver.events({ kinds: ['membership'] })) {
  told.push(event)
  console.error(event.message)
  if (told.length === Number(count)) break
}
await receiver.close()
const memberships = published.filter(({ kind }) => kind === 'membership')
print({ told, same: JSON.stringify(memberships) === JSON.stringify(told) })
