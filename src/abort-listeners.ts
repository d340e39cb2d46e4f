/**
 * One listener per AbortSignal, however many sends it may withdraw. With a listener for each, Node would warn of a leak from the eleventh on,
 * and every settlement would walk through all of them to remove its own.
 */
interface Listeners {
  readonly callbacks: Set<() => void>
  readonly fire: () => void
}

const listenersOf = new WeakMap<AbortSignal, Listeners>()

/** Calls `callback` when the signal aborts, in order of listening. It must not have aborted yet. */
export function listen(signal: AbortSignal, callback: () => void): void {
  let listeners = listenersOf.get(signal)
  if (!listeners) {
    const callbacks = new Set<() => void>()
    listeners = {
      callbacks,
      fire: () => {
        for (const each of [...callbacks]) each()
      },
    }
    listenersOf.set(signal, listeners)
  }
  if (listeners.callbacks.size === 0) signal.addEventListener('abort', listeners.fire)
  listeners.callbacks.add(callback)
}

export function unlisten(signal: AbortSignal, callback: () => void): void {
  const listeners = listenersOf.get(signal)
  if (!listeners?.callbacks.delete(callback) || listeners.callbacks.size > 0) return
  signal.removeEventListener('abort', listeners.fire)
}
