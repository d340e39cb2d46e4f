import type { BackendCaps } from '../backend/backend.js'
import type { BatchConfig } from '../batch/template.js'
import type { Flavour } from '../spead/index.js'
import { type HeapPace, ratesOf, substreamsOf } from './arguments.js'
import type { BatchOptions } from './batch.js'
import type { StreamConfig } from './config.js'

/** The stream that a batch is made for. */
export interface BatchPlace {
  readonly flavour: Flavour
  readonly endpoints: number
  readonly pace: HeapPace
  readonly numaNode: number | undefined
}

/** What a batch is made of: its options, which have been checked, and its stream's. */
export function batchConfig(
  { items, heaps, groupMode = 'serial', memory = {}, views, substreams, rates }: BatchOptions,
  { packetSizeBytes, split, repeatPointers, descriptors }: StreamConfig,
  { headroomBytes, mergesEqualPackets }: BackendCaps,
  { flavour, endpoints, pace, numaNode }: BatchPlace,
): BatchConfig {
  return {
    items,
    heaps,
    flavour,
    packetSizeBytes,
    split,
    repeatPointers,
    groupMode,
    substreams: substreamsOf(substreams, heaps, endpoints),
    rates: ratesOf(rates, heaps, pace),
    memory,
    views,
    headroomBytes,
    mergesEqualPackets,
    inBandDescriptors: descriptors === 'in-band',
    numaNode,
  }
}
