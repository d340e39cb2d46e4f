/** The options that say on which CPUs the command's threads run, and when their turn comes. */
import { InvalidArgumentError, Option } from 'commander'
import type { StreamOptions } from '../../index.js'
import { cpuList } from './arguments.js'

type Priority = NonNullable<StreamOptions['priority']>

export interface MainCpuFlag {
  readonly mainCpu?: readonly number[]
}

export interface PlaceFlags extends MainCpuFlag {
  readonly ioCpu?: readonly number[]
  readonly priority?: Priority
}

export const IO_CPU = '--io-cpu <CPUS>'
export const PRIORITY = '--priority <PRIORITY>'
export const PRIORITY_VALUES = 'a nice value, such as -5, or a real-time priority, such as rr:10, which goes before all others'

export const mainCpuOption = (): Option =>
  new Option('--main-cpu <CPUS>', 'CPUs for the main thread, which leaves the others to the rest (default: any)').argParser(cpuList)

/** Parses a nice value, or a real-time policy with its level. */
export function threadPriority(text: string): Priority {
  if (/^[-+]?\d{1,2}$/.test(text) && Number(text) >= -20 && Number(text) <= 19) return Number(text)
  if (/^(rr|fifo):[1-9]\d?$/.test(text)) return text as Priority
  throw new InvalidArgumentError('It must be a nice value from -20 to 19, or rr:1 to rr:99, or fifo:1 to fifo:99.')
}

/** Pins this thread. Call it when the library is loaded, and before it starts threads. @throws ERR_SPEADCAST_CONFIG */
export async function pinMain({ mainCpu }: MainCpuFlag): Promise<void> {
  if (mainCpu === undefined) return
  const { pinThread } = await import('../../index.js')
  pinThread(mainCpu)
}
