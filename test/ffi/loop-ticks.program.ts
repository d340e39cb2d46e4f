/** Waits for a descriptor, and prints what ran behind the callback before anything else happened on the event loop. */
import { LoopWaker } from '#dist/ffi/loop-poll.js'
import { EventFd } from '#dist/ffi/wait.js'
import { print } from '../support/print.js'

const ran: string[] = []
const waker = new LoopWaker(new EventFd(), () => {
  ran.push('told')
  process.nextTick(() => ran.push('tick'))
  queueMicrotask(() => ran.push('microtask'))
})
waker.source.signal()
// The next event, long after.
setTimeout(() => {
  print(ran.join())
  waker.close()
}, 500)
