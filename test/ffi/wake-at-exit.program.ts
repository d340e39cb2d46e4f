/** A descriptor that watches on the event loop becomes ready while the process ends, before and after the end of the watch. */
import { LoopWaker } from '#dist/ffi/loop-poll.js'
import { EventFd } from '#dist/ffi/wait.js'

const fd = new EventFd()
process.on('exit', () => fd.signal())
const waker = new LoopWaker(fd, () => console.log('ready'))
process.on('exit', () => {
  fd.signal()
  waker.hold(true)
  new LoopWaker(fd, () => console.log('ready'))
  console.log('exits')
})
