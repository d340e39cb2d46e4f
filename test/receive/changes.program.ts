/** Receives a GROUP on interface v1 until it was joined again, and prints what the channel of changes told. */
import { subscribe } from 'node:diagnostics_channel'
import { openReceiver, type ReceiverMessages } from 'speadcast/receive'

const [group = ''] = process.argv.slice(2)
const receiver = await openReceiver({ endpoints: group, interface: 'v1', timeoutSeconds: 15 })
subscribe('speadcast:receiver:change', (message) => {
  const { receiver: of, what, time } = message as ReceiverMessages['speadcast:receiver:change']
  console.log(JSON.stringify({ what, same: of === receiver, recent: Math.abs(Date.now() - time) < 60_000 }))
  if (what.includes('joined again')) void receiver.close()
})
console.error('listening')
await receiver.done
