import type { Split, StreamOptions } from '../../index.js'
import { usageError } from '../common/exit.js'
import { secondsOf } from '../common/quantity.js'
import { checkTransportOptions, type TransportFlags, transportOptions } from '../common/transport-options.js'
import type { SendFlags } from './flags.js'
import { itemIds, sendItems } from './items.js'

export const DEFAULT_PACKET_BYTES = 1472
/** Bytes of the SPEAD header and the four standard pointers. */
const EXACT_HEADER_BYTES = 8 + 4 * 8
const POINTER_BYTES = 8

/** Refuses options that contradict each other; the library checks each for itself. @throws ERR_SPEADCAST_CONFIG */
export function checkFlags(flags: SendFlags, to: readonly string[]): void {
  const { rateMethod, split, payloadBytes, input, pcap, backend, heapAddressBits, descriptors } = flags
  if (rateMethod === 'hw' && backend !== 'ibverbs') throw usageError('--rate-method hw: pacing by the NIC needs --backend ibverbs')
  if (rateMethod === 'kernel' && backend !== 'udp')
    throw usageError('--rate-method kernel: pacing by the kernel needs --backend udp')
  if (pcap !== undefined && backend !== 'pcap' && backend !== 'auto')
    throw usageError(`--pcap writes a file instead of sending, so it cannot go with --backend ${backend}; drop one of the two`)
  if (pcap === '-') throw usageError('--pcap writes a file, which standard output may not be; for a file of that name write ./-')
  checkTransportOptions(flags, backendOf(flags), to)
  if (split === 'exact' && payloadBytes === undefined)
    throw usageError('--split exact needs --payload-bytes, the payload of every packet')
  if (split !== 'exact' && payloadBytes !== undefined) throw usageError(`--payload-bytes is for --split exact, not ${split}`)
  if (input === undefined && flags.maxDelay !== undefined)
    throw usageError('--max-delay is for --input; without it every batch is full at once')
  if (input === undefined && flags.loop === undefined && flags.padLast)
    throw usageError('--pad-last is for --input and --loop; without them every heap is full')
  if (input !== undefined && flags.loop !== undefined)
    throw usageError('--input sends samples once, --loop over and over; drop one of the two')
  if (flags.loop !== undefined && flags.batches !== undefined)
    throw usageError('--batches is how many are filled in turn; --loop fills as many as its file makes, once')
  if (flags.timestampStep !== undefined && flags.samplesPerHeap !== undefined)
    throw usageError('--samples-per-heap is the former name of --timestamp-step; drop one of the two')
  // The id stands in the descriptor as an immediate.
  const long = itemIds(flags).filter((id) => id >= 2 ** heapAddressBits)
  if (long.length > 0 && descriptors !== 'none')
    throw usageError(
      `--heap-address-bits ${heapAddressBits}: descriptors of SPEAD-64-${heapAddressBits} cannot hold the item ids, ` +
        `${long.map((id) => `0x${id.toString(16)}`).join(' and ')}; use --descriptors none`,
    )
  if (backend === 'pcap' && pcap === undefined) throw usageError('--backend pcap needs --pcap, the file to write')
}

export function packetSizeBytes(flags: SendFlags): number {
  const { split, payloadBytes, packetSize } = flags
  if (packetSize !== undefined) return packetSize
  if (split !== 'exact') return DEFAULT_PACKET_BYTES
  return EXACT_HEADER_BYTES + POINTER_BYTES * itemIds(flags).length + payloadBytes!
}

const backendOf = ({ pcap, backend }: SendFlags): TransportFlags['backend'] => (pcap === undefined ? backend : 'pcap')

/** @throws ERR_SPEADCAST_CONFIG */
export function streamOptions(endpoints: readonly string[], flags: SendFlags): StreamOptions {
  const { pcap, repeatPointers = false } = flags
  return {
    to: endpoints,
    backend: backendOf(flags),
    packetSizeBytes: packetSizeBytes(flags),
    split: splitOf(flags),
    // An exact layout says itself whether pointers repeat.
    repeatPointers: repeatPointers && flags.split !== 'exact',
    flavour: { heapAddressBits: flags.heapAddressBits, bugCompat: flags.bugCompat ?? 0 },
    firstCnt: flags.firstCnt,
    cntStep: flags.cntStep,
    descriptors: descriptorsOf(flags),
    rate: flags.rate,
    rateMethod: flags.rateMethod,
    rateBasis: flags.rateBasis,
    burstBytes: flags.burst,
    burstRateRatio: flags.burstRateRatio,
    catchUpSeconds: flags.catchUp,
    ...clockOf(flags),
    ...(flags.lagBound !== undefined && { lagBoundSeconds: flags.lagBound }),
    // A heap that is refused would be lost.
    ...(flags.onError && { onError: flags.onError }),
    onThreadDeath: flags.onThreadDeath,
    ...(flags.maxQueued !== undefined && { maxQueuedBytes: flags.maxQueued, queueFull: 'wait' as const }),
    ...transportOptions(flags),
    ...(pcap !== undefined && { pcapPath: pcap }),
  }
}

/** @throws ERR_SPEADCAST_CONFIG */
function clockOf(flags: SendFlags): Pick<StreamOptions, 'clock'> {
  const { clock: syncTime, sampleRate: sampleRateHz, startAt, late, lateTolerance, unsynchronised, rate } = flags
  if (syncTime === undefined) {
    const alone = Object.entries({
      'sample-rate': sampleRateHz,
      'start-at': startAt,
      late,
      'late-tolerance': lateTolerance,
      unsynchronised,
    })
    for (const [flag, value] of alone)
      if (value !== undefined) throw usageError(`--${flag} is of the observation clock; give --clock too, the time of timestamp 0`)
    return {}
  }
  if (sampleRateHz === undefined) throw usageError('--clock needs --sample-rate, the samples a second that timestamps count')
  if (`${rate}` !== '0') throw usageError('--clock says when each heap is due, which makes the rate; leave --rate out')
  const { timestamp } = sendItems(flags)
  return {
    clock: {
      syncTime,
      sampleRateHz,
      samplesPerHeap: timestamp.step,
      item: timestamp.name,
      ...(startAt !== undefined && { startAt }),
      ...(late && { late }),
      ...(lateTolerance !== undefined && { lateToleranceSeconds: lateTolerance / 1000 }),
      ...(unsynchronised && { unsynchronised }),
    },
  }
}

function splitOf(flags: SendFlags): Split {
  const { split, payloadBytes, repeatPointers = false } = flags
  if (split !== 'exact') return split
  const items = itemIds(flags).map((item) => ({ item }))
  return {
    payloadBytes: payloadBytes!,
    pointers: ['heap-cnt', 'heap-length', 'payload-offset', 'payload-length', ...items],
    repeat: repeatPointers,
  }
}

function descriptorsOf(flags: SendFlags): NonNullable<StreamOptions['descriptors']> {
  const { descriptors: text, descriptorFirstCnt: firstCnt, descriptorCntStep: cntStep, descriptorStagger: stagger } = flags
  const own = {
    ...(firstCnt !== undefined && { firstCnt }),
    ...(cntStep !== undefined && { cntStep }),
    ...(stagger && { stagger }),
  }
  if (text === 'in-band' || text === 'none') {
    if (Object.keys(own).length === 0) return text
    throw usageError(
      `--descriptor-first-cnt, -cnt-step and -stagger are of descriptors in heaps of their own, not --descriptors ${text}`,
    )
  }
  if (cntStep !== undefined && firstCnt === undefined)
    throw usageError('--descriptor-cnt-step is of a sequence of their own; say where it begins with --descriptor-first-cnt')
  if (stagger && text === 'first')
    throw usageError('--descriptor-stagger is of descriptors that are repeated; say how often with --descriptors SECONDS')
  if (text === 'first') return firstCnt === undefined ? text : own
  const everySeconds = secondsOf(text)
  if (everySeconds >= 0.001) return { everySeconds, ...own }
  throw usageError(`--descriptors is '${text}'; it must be first, in-band, none or a number of seconds from 0.001 up`)
}
