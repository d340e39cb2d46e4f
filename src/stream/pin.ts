import { CPUS_RULE, cpusOf, pinStarter } from '../../ffi/placement.js'
import { listOf, shown } from '../checks.js'
import { ensure } from '../errors.js'

/**
 * Lets the calling thread run on these CPUs alone, such as the main thread, which fills batches. Threads that streams and receivers start
 * later keep those that it gives up: all that it had but these, or all where there are no others. Call it before the first stream is opened,
 * because threads that run already stay where they are.
 * @param cpus their numbers, as `affinity` of `openStream`
 * @throws ERR_SPEADCAST_CONFIG where one of them may not be used, with those that may
 * @example pinThread([2])
 */
export function pinThread(cpus: readonly number[]): void {
  const list = cpusOf(listOf(cpus))
  ensure(list && list.length > 0, 'ERR_SPEADCAST_CONFIG', () => `pinThread: cpus is ${shown(cpus)}; ${CPUS_RULE}`)
  pinStarter('pinThread', list)
}
