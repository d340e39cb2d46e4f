export { Region } from '../ffi/memory/region.js'
export { type BatchRingOptions, batchesFor, createBatchRing } from './adapters/batch-ring.js'
export type { SampleWriterEnd, SampleWriterOptions, SampleWriterSummary, SettledHeaps } from './adapters/sample-options.js'
export { type SampleWriter, sampleWriter } from './adapters/sample-writer.js'
export { type HeapsToSend, type SendAllOptions, type SendAllResult, sendAll, toWritable } from './adapters/send-all.js'
export type { MemoryOptions, MemoryPacket } from './backend/memory.js'
export type { GroupMode } from './batch/compile.js'
export type { ExternalMemory } from './batch/external-memory.js'
export { AttachedBatch, attachBatch } from './batch/handle.js'
export type { HeapReference } from './batch/heaps.js'
export type {
  BatchHandle,
  BatchViews,
  HeapViews,
  ImmediateColumn,
  NumericView,
} from './batch/views.js'
export type { HeapStatus, SubstreamCause } from './engine/outcome.js'
export { ERROR_CODES, type ErrorCode, SpeadcastError } from './errors.js'
export {
  BUG_COMPAT,
  DEFAULT_FLAVOUR,
  Descriptor,
  type ExactPointer,
  type ExactSplit,
  type Flavour,
  Heap,
  Item,
  ItemGroup,
  type ItemInit,
  type ItemOptions,
  type ItemSource,
  type ItemValue,
  makeFlavour,
  packetsOf,
  type Split,
} from './spead/index.js'
export type { Batch, BatchOptions } from './stream/batch.js'
export type { CloseOptions, CloseReport, SendOptions, StreamStats } from './stream/calls.js'
export type { StreamMessagesOf } from './stream/channels.js'
export { IoThread, type IoThreadOptions } from './stream/io-thread.js'
export { openStream } from './stream/open.js'
export {
  DEFAULTS,
  type DescriptorOptions,
  type IbverbsStreamOptions,
  type RdmaUdPeer,
  type RdmaUdStreamOptions,
  type StreamOptions,
} from './stream/options.js'
export type { PathChange } from './stream/path-change.js'
export { parseRate } from './stream/rate.js'
export { type BatchOutcome, type BatchResult, SendError } from './stream/result.js'
export type { SendPromise } from './stream/send-promise.js'
export type { Stream } from './stream/stream.js'
export type { StreamMessages } from './stream/stream-messages.js'
