/** Closes one waker before the end, and both of two at the end. */
import { LoopWaker } from '#dist/ffi/loop-poll.js'
import { EventFd } from '#dist/ffi/wait.js'

const wakers = [1, 2].map(() => new LoopWaker(new EventFd(), () => console.log('ready')))
wakers[0]!.close()
process.on('exit', () => {
  for (const waker of wakers) waker.close()
  console.log(wakers.map(({ source }) => source.open).join())
})
