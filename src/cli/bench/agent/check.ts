import { parseRate } from '../../../index.js'
import { usageError } from '../../common/exit.js'
import { checkTransportOptions } from '../../common/transport-options.js'
import type { BenchFlags } from '../flags.js'

/** Options of the sweep without an agent. */
const OTHERS: Readonly<Record<string, string>> = { warmupSeconds: '--warmup-seconds', repeats: '--repeats' }
const SHOWN: Readonly<Record<string, string>> = { interval: '--interval', live: '--live' }
/** Options of the search. */
const OWN: Readonly<Record<string, string>> = {
  accuracy: '--accuracy',
  confirm: '--confirm',
  burst: '--burst',
  html: '--html',
}

/** Refuses options that make no sense with --agent. @throws ERR_SPEADCAST_CONFIG */
export function checkAgentFlags(endpoint: string, flags: BenchFlags, given: (option: string) => boolean): void {
  for (const [option, flag] of Object.entries(OTHERS))
    if (given(option))
      throw usageError(`${flag} is of bench without --agent; a search takes --confirm rounds and counts from the first packet on`)
  for (const [option, flag] of Object.entries(SHOWN))
    if (given(option)) throw usageError(`${flag} is of bench without --agent; a search prints a line for each run`)
  const { backend, html } = flags
  if (html === '-') throw usageError('--html writes a file; for one of that name write ./-, and for standard output /dev/stdout')
  if (backend === 'rdma-ud' || backend === 'memory')
    throw usageError(`--agent receives UDP or TCP, not --backend ${backend}; use auto, ibverbs, udp, dgram or tcp`)
  // Refuses a share of the link, which makes no bound for a search.
  parseRate(flags.rate)
  checkTransportOptions(flags, backend, [endpoint])
}

/** Refuses options of the search without --agent. @throws ERR_SPEADCAST_CONFIG */
export function checkWithoutAgent(given: (option: string) => boolean): void {
  for (const [option, flag] of Object.entries(OWN))
    if (given(option)) throw usageError(`${flag} is of the search for a rate; add --agent`)
}
