// Preloaded into worker threads by planted-fault.ts: looking at the clock throws once after it was asked to.
const { performance } = require('node:perf_hooks')
const { getEnvironmentData, isMainThread } = require('node:worker_threads')

const words = getEnvironmentData('planted-fault')
if (!isMainThread && words) {
  const now = performance.now.bind(performance)
  let rest = 0
  performance.now = () => {
    if (Atomics.load(words, 0) !== 0) rest = Atomics.exchange(words, 0, 0)
    if (rest > 0 && --rest === 0) throw new Error('a planted fault')
    return now()
  }
}
