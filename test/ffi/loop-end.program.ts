/** Ends with a watched descriptor that is ready, before and after the listener for 'exit' that LoopWaker has. */
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
