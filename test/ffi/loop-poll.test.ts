// Waiting on the event loop, up to the very end of the process.
import { expect, test } from 'vitest'
import { runModule } from '../support/child.js'
import { need } from '../support/need.js'

test('what comes while the process ends is not told, and does not abort it', async (ctx) => {
  need(ctx, process.platform === 'linux', 'eventfd is of Linux')
  // Before and after the listener of LoopWaker's own, and again while an I/O thread is stopped.
  const program = `import { LoopWaker } from '#dist/ffi/loop-poll.js'
import { EventFd } from '#dist/ffi/wait.js'
const fd = new EventFd()
process.on('exit', () => fd.signal())
const waker = new LoopWaker(fd, () => console.log('ready'))
process.on('exit', () => {
  fd.signal()
  waker.hold(true)
  new LoopWaker(fd, () => console.log('ready'))
  console.log('exits')
})`
  expect(await runModule(program)).toEqual({ code: 0, signal: null, stdout: 'exits\n', stderr: '' })
})

test('the end of the process closes what it is told to close, once', async (ctx) => {
  need(ctx, process.platform === 'linux', 'eventfd is of Linux')
  const program = `import { LoopWaker } from '#dist/ffi/loop-poll.js'
import { EventFd } from '#dist/ffi/wait.js'
const wakers = [1, 2].map(() => new LoopWaker(new EventFd(), () => console.log('ready')))
wakers[0].close()
process.on('exit', () => {
  for (const waker of wakers) waker.close()
  console.log(wakers.map(({ source }) => source.open).join())
})`
  expect(await runModule(program)).toEqual({ code: 0, signal: null, stdout: 'false,false\n', stderr: '' })
})
