/** What receivers tell on the channels of node:diagnostics_channel. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { openStream } from 'speadcast'
import { openReceiver, type ReceiverMessages } from 'speadcast/receive'
import { expect, onTestFinished, test } from 'vitest'
import { freePort } from './support.js'

function heard<N extends keyof ReceiverMessages>(name: N): ReceiverMessages[N][] {
  const messages: ReceiverMessages[N][] = []
  const listener = (message: unknown): number => messages.push(message as ReceiverMessages[N])
  subscribe(name, listener)
  onTestFinished(() => void unsubscribe(name, listener))
  return messages
}

const turn = () => new Promise(setImmediate)

test('a receiver tells that it is open, and its summary at the end', async () => {
  const opened = heard('speadcast:receiver:open')
  const closed = heard('speadcast:receiver:close')
  const failed = heard('speadcast:receiver:error')
  const endpoint = `127.0.0.1:${await freePort()}`
  await using receiver = await openReceiver({ endpoints: endpoint })
  await turn()
  expect(opened.map((message) => message.receiver)).toEqual([receiver])
  expect(closed).toEqual([])
  await using stream = await openStream({ to: endpoint })
  await stream.sendEnd()
  const summary = await receiver.done
  await turn()
  expect(closed).toEqual([{ receiver, summary }])
  expect(summary.reason).toBe('stop')
  expect(failed).toEqual([])
})
