/** Closes one watch before and both at the end of the process; prints which descriptors are open then. */
import { LoopWaker } from '#dist/ffi/loop-poll.js'
import { EventFd } from '#dist/ffi/wait.js'

const sources = [new EventFd(), new EventFd()]
const wakers = sources.map((source) => new LoopWaker(source, () => console.log('ready')))
wakers[0]!.close()
process.on('exit', () => {
  for (const waker of wakers) waker.close()
  console.log(sources.map(({ open }) => open).join())
})
