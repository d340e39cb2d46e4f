/** The part of this sender among several that send one stream: its heap cnts and its endpoints. */
import { usageError } from '../common/exit.js'
import type { SendFlags } from './flags.js'

/** @throws ERR_SPEADCAST_CONFIG */
function checkIndex({ index, of, dealEndpoints }: SendFlags): void {
  if (index !== undefined && of === undefined)
    throw usageError(`--index ${index} says which sender this is; say of how many with --of N (SPEADCAST_SENDERS)`)
  if (index === undefined && of !== undefined)
    throw usageError(`--of ${of} says how many senders there are; say which one this is with --index I (SPEADCAST_INDEX)`)
  if (index !== undefined && index >= of!) throw usageError(`--index ${index}: with --of ${of} it is from 0 to ${of! - 1}`)
  if (dealEndpoints && index === undefined) throw usageError('--deal-endpoints needs --index I and --of N')
}

/** A number where that is exact. */
const narrowed = (value: bigint): number | bigint => (value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value)

/** The flags with this sender's share of the heap cnts: from `first` on every `of`th. @throws ERR_SPEADCAST_CONFIG */
export function withShare(flags: SendFlags): SendFlags {
  checkIndex(flags)
  const { index, of } = flags
  if (index === undefined || of === undefined) return flags
  const first = (start: number | bigint, step: number | bigint) => narrowed(BigInt(start) + BigInt(step) * BigInt(index))
  const every = (step: number | bigint) => narrowed(BigInt(step) * BigInt(of))
  const { firstCnt, cntStep, descriptorFirstCnt, descriptorCntStep = 1 } = flags
  return {
    ...flags,
    firstCnt: first(firstCnt, cntStep),
    cntStep: every(cntStep),
    ...(descriptorFirstCnt !== undefined && {
      descriptorFirstCnt: Number(first(descriptorFirstCnt, descriptorCntStep)),
      descriptorCntStep: Number(every(descriptorCntStep)),
    }),
  }
}

/** This sender's endpoints: of all every `of`th, or one where there are fewer than senders. @throws ERR_SPEADCAST_CONFIG */
export function dealt(endpoints: readonly string[], { index, of, dealEndpoints }: SendFlags): string[] {
  if (!dealEndpoints || index === undefined || of === undefined) return [...endpoints]
  const all = endpoints.flatMap((text) => text.split(','))
  const range = all.find((text) => /\+\d/.test(text))
  if (range !== undefined)
    throw usageError(
      `--deal-endpoints deals endpoints one by one, and ${range} is several; name them, or write a range by {index*4}`,
    )
  return all.length < of ? [all[index % all.length]!] : all.filter((_, i) => i % of === index)
}
