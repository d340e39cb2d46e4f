/** Tells a stream's owner that its packets take another way, or none any more. */
import type { StateWords } from '../backend/states.js'
import { messageOf } from '../checks.js'
import { warn } from '../errors.js'

/** A change of the way that packets take, as `StreamOptions.onPathChange` is told of it. */
export interface PathChange {
  /** How often the ways of this stream have changed, with this change. */
  readonly changes: number
  /** When and how, for a person. Several changes at once are told together: it is the last one. */
  readonly what: string
  /** As `stream.stats().states` tells them now. */
  readonly states: StateWords
}

/** Calls `listener` if a path has changed, when the stream is not in the middle of a send. Its errors become warnings. */
export function tellPathChange(listener: (change: PathChange) => unknown, before: StateWords, states: StateWords): void {
  const changes = changesOf(states)
  if (changes === changesOf(before)) return
  queueMicrotask(() => void call(listener, { changes, what: `${states.lastPathChange}`, states }))
}

function changesOf({ pathChanges }: StateWords): number {
  return typeof pathChanges === 'number' ? pathChanges : 0
}

async function call(listener: (change: PathChange) => unknown, change: PathChange): Promise<void> {
  try {
    await listener(change)
  } catch (error) {
    warn('SPEADCAST_LISTENER', `onPathChange threw: ${messageOf(error)}`)
  }
}
