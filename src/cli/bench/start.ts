/** Begins what the options of `speadcast bench` ask for: the sweep of one host, or the search between two. */
import { complain, usageError } from '../common/exit.js'
import { pinMain } from '../common/place.js'
import type { BenchFlags } from './flags.js'

/** @param given whether the option was given on the command line */
export async function startBench(
  endpoints: readonly string[],
  flags: BenchFlags,
  given: (option: string) => boolean,
): Promise<void> {
  try {
    const to = endpointsOf(endpoints, flags)
    await pinMain(flags)
    if (!flags.agent) {
      const { checkWithoutAgent } = await import('./agent/check.js')
      checkWithoutAgent(given)
      return await (await import('./run.js')).runBench(to, flags)
    }
    const [endpoint, ...others] = to
    if (others.length > 0) throw usageError(`--agent is one agent, not ${to.length}: ${to.join(' ')}`)
    // There is at least one.
    await (await import('./agent/master.js')).runMaster(endpoint!, flags, given)
  } catch (error) {
    complain('bench', error)
  }
}

/** @throws ERR_SPEADCAST_CONFIG */
function endpointsOf(endpoints: readonly string[], { to, agent }: BenchFlags): readonly string[] {
  if (to !== undefined && endpoints.length > 0)
    throw usageError(`endpoints are given twice, as ${endpoints.join(' ')} and --to ${to.join(' ')}; leave one out`)
  const given = to ?? endpoints
  if (given.length > 0) return given
  throw usageError(`say where to send: speadcast bench ${agent ? 'HOST --agent' : 'HOST:PORT'}`)
}
