/**
 * A worker that is ended while koffi initialises in it takes the whole process down: koffi throws into an isolate that runs nothing any more,
 * which Node-API makes an abort (docs/ground-rules.md, "Threads and workers"). A process ends its workers when it exits. So an exit hook waits
 * for those that load native code, some milliseconds.
 */

/** A worker that has not loaded its code by then has other troubles. */
const LONGEST_MS = 2000

const loading = new Set<Int32Array>()

function awaitAll(): void {
  for (const word of loading) Atomics.wait(word, 0, 0, LONGEST_MS)
}

/** Returns the word that the worker is to be given, and that forgetLoad() is to be called with when it has ended. */
export function expectLoad(): Int32Array {
  const word = new Int32Array(new SharedArrayBuffer(4))
  if (loading.size === 0) process.on('exit', awaitAll)
  loading.add(word)
  return word
}

export function forgetLoad(word: Int32Array): void {
  if (loading.delete(word) && loading.size === 0) process.off('exit', awaitAll)
}

/** In the worker: its native code is loaded, or will never be. */
export function noteLoaded(word: Int32Array): void {
  Atomics.store(word, 0, 1)
  Atomics.notify(word, 0)
}
