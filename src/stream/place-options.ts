/** The options of openStream that say where its I/O thread runs, and when its turn comes. */
import * as v from 'valibot'
import { cpusOf, MOST_CPUS, PRIORITY_RULE, priorityOf, type ThreadPriority } from '../../ffi/placement.js'

const CPU_RULE = `must be a whole number from 0 to ${MOST_CPUS - 1} (CPU number)`

/** In order and without repetitions, so that streams which say the same share a thread. */
const affinity = v.pipe(
  v.optional(
    v.array(
      v.pipe(
        v.number(CPU_RULE),
        v.check((cpu) => cpusOf([cpu]) !== undefined, CPU_RULE),
      ),
      'must be a list of CPU numbers',
    ),
    [],
  ),
  v.transform((cpus) => cpusOf(cpus)!),
)

const priority = v.optional(
  v.pipe(
    v.unknown(),
    v.rawTransform(({ dataset, addIssue, NEVER }): ThreadPriority => {
      const known = priorityOf(dataset.value)
      if (known !== undefined) return known
      addIssue({ message: PRIORITY_RULE.replace(/^it /, '') })
      return NEVER
    }),
  ),
)

export const THREAD_PLACE = { affinity, priority }

export interface ThreadPlace {
  readonly affinity: readonly number[]
  readonly priority?: ThreadPriority | undefined
}

/** The option, if any, that says where the I/O thread runs or when its turn comes. */
export function placed({ affinity, priority }: ThreadPlace): 'affinity' | 'priority' | undefined {
  if (affinity.length > 0) return 'affinity'
  return priority === undefined ? undefined : 'priority'
}
