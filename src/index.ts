/// <reference types="node" preserve="true" />
/// <reference lib="esnext.disposable" preserve="true" />
/**
 * The package's entry `speadcast`: streams, batches, items, and what stands on them.
 *
 *     import { ItemGroup, openStream } from 'speadcast'
 *
 * @module speadcast
 */
export { type PageKind, Region, type RegionHandle, type RegionOptions } from '../ffi/memory/region.js'
export { type BatchRingOptions, batchesFor, createBatchRing } from './adapters/batch-ring.js'
export type { SampleWriterEnd, SampleWriterOptions, SampleWriterSummary, SettledHeaps } from './adapters/sample-options.js'
export { type SampleWriter, sampleWriter } from './adapters/sample-writer.js'
export { type HeapsToSend, type SendAllOptions, type SendAllResult, sendAll, toWritable } from './adapters/send-all.js'
export type { Fault, MemoryOptions, MemoryPacket } from './backend/memory.js'
export type { BackendChoice, BackendName } from './backend/names.js'
export type { StateWords } from './backend/states.js'
export type { ImmediateColumn, RampOptions } from './batch/column.js'
export type { GroupMode } from './batch/compile.js'
export type { ExternalMemory } from './batch/external-memory.js'
export { type Attached, AttachedBatch, type AttachOptions, attachBatch } from './batch/handle.js'
export type { HeapReference } from './batch/heaps.js'
export type {
  ByHand,
  ClassesFor,
  HeapOf,
  HeapViews,
  ImmediatesOf,
  Instances,
  NoViews,
  ViewClasses,
  ViewsOf,
} from './batch/view-types.js'
export type { BatchHandle, BatchViews } from './batch/views.js'
export type { HeapStatus, SubstreamCause } from './engine/outcome.js'
export { ERROR_CODES, type ErrorCode, SpeadcastError } from './errors.js'
export type { Distribution } from './histogram.js'
export {
  BigEndianBigIntView,
  BigEndianView,
  BUG_COMPAT,
  DEFAULT_FLAVOUR,
  Descriptor,
  type Dtype,
  type DtypeField,
  type DtypeKind,
  type DtypeText,
  type EntryOf,
  type ExactPointer,
  type ExactSplit,
  FieldView,
  type Flavour,
  type FormatField,
  Heap,
  type HeapEntry,
  type HeapSelection,
  type Immediate,
  Item,
  ItemGroup,
  type ItemGroupConstructor,
  type ItemGroupOptions,
  type ItemInit,
  type ItemOptions,
  type ItemSource,
  type ItemValue,
  makeFlavour,
  type NameIn,
  type NumericView,
  type PacketOptions,
  packetsOf,
  type RawItem,
  type Shape,
  type Split,
  StructView,
  type Uncertain,
  type ViewClass,
  type WireView,
  type WithItem,
} from './spead/index.js'
export type { StreamCounters, StreamHistograms, SubstreamStats } from './stats.js'
export type { Batch, BatchOptions } from './stream/batch.js'
export type { CloseOptions, CloseReport, SendOptions, StatsOptions, StreamStats } from './stream/calls.js'
export type { NextTimestampOptions, StreamClock } from './stream/clock.js'
export type { ClockTime } from './stream/clock-time.js'
export type { StreamEventKind } from './stream/event-kinds.js'
export type { EventFacts, EventOptions, StreamEvent } from './stream/events.js'
export { IoThread, type IoThreadOptions, type RealTime, type ThreadPriority } from './stream/io-thread.js'
export type { Loop } from './stream/loop.js'
export {
  LoopError,
  type LoopHeaps,
  type LoopOptions,
  type LoopPosition,
  type LoopReport,
  type LoopRounds,
  type SwapOptions,
} from './stream/loop-types.js'
export { openStream } from './stream/open.js'
export {
  type ConnectedSocketOptions,
  DEFAULTS,
  type DescriptorOptions,
  type IbverbsStreamOptions,
  type OnError,
  type OnErrorOptions,
  type RdmaUdPeer,
  type RdmaUdStreamOptions,
  type StreamOptions,
  type StreamSocket,
  type TcpStreamOptions,
  type ThreadDeathOptions,
} from './stream/options.js'
export type { PathChange } from './stream/path-change.js'
export { pinThread } from './stream/pin.js'
export { parseRate, type RateText, type RateUnit } from './stream/rate.js'
export { type BatchOutcome, type BatchResult, SendError, type SkippedHeaps } from './stream/result.js'
export type { SendPromise } from './stream/send-promise.js'
export type { Stream } from './stream/stream.js'
export type { StreamClockOptions } from './stream/stream-clock-options.js'
export type { StreamMessages } from './stream/stream-messages.js'
