import { isShort, Region } from '../../ffi/memory/region.js'
import { isInstance, shown } from '../checks.js'
import { ensure } from '../errors.js'
import { alignmentOf, type Item } from '../spead/index.js'

/**
 * Where an item's samples live when they are not in the batch's own memory: heap j's at offsetBytes + j × strideBytes of the region. The region
 * cannot be released while the batch is open.
 * @example stream.createBatch({ items, heaps: 64, memory: { adc_samples: { region, offsetBytes: 4096, strideBytes: 8192 } } })
 */
export interface ExternalMemory {
  /** The memory, from `Region.allocate`, `Region.fromFd` or `Region.fromAddress`. */
  readonly region: Region
  /** Where heap 0's samples begin; a multiple of the dtype's alignment. Default 0. */
  readonly offsetBytes?: number
  /** Bytes from one heap's samples to the next one's. Default: the item's length, heaps back to back. */
  readonly strideBytes?: number
}

/** Checks that the region has room for the item in each of `heaps` heaps, aligned for its views. @throws ERR_SPEADCAST_MEMORY */
export function checkExternal(item: Item, memory: ExternalMemory, heaps: number): void {
  const { region, offsetBytes = 0, strideBytes = item.byteLength! } = memory ?? {}
  ensure(
    isInstance(region, Region),
    'ERR_SPEADCAST_MEMORY',
    () => `memory of item '${item.name}': region is ${shown(region)}; it must be a Region, from Region.fromFd or Region.allocate`,
  )
  ensure(
    !region.released,
    'ERR_SPEADCAST_MEMORY',
    () => `memory of item '${item.name}': its region was released and may be another's by now; allocate it anew`,
  )
  ensure(
    !(region.file && isShort(region.file)),
    'ERR_SPEADCAST_MEMORY',
    () => `memory of item '${item.name}': the file behind its region became shorter; give it its size again`,
  )
  ensure(
    Number.isSafeInteger(offsetBytes) && Number.isSafeInteger(strideBytes) && offsetBytes >= 0 && strideBytes >= item.byteLength!,
    'ERR_SPEADCAST_MEMORY',
    () =>
      `memory of item '${item.name}': offsetBytes ${shown(offsetBytes)}, strideBytes ${shown(strideBytes)}; the stride must be at least its ${item.byteLength} bytes`,
  )
  const end = offsetBytes + (heaps - 1) * strideBytes + item.byteLength!
  ensure(
    end <= region.byteLength,
    'ERR_SPEADCAST_MEMORY',
    () =>
      `memory of item '${item.name}' ends at byte ${end} of a region of ${region.byteLength}; map a larger one or send fewer heaps`,
  )
  const alignment = item.dtype ? alignmentOf(item.dtype) : 1
  ensure(
    offsetBytes % alignment === 0 && strideBytes % alignment === 0,
    'ERR_SPEADCAST_MEMORY',
    () => `memory of item '${item.name}': offsetBytes and strideBytes must be multiples of ${alignment} for its views`,
  )
}
