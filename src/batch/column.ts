import { checkOptions, listOf, oneOf, shown } from '../checks.js'
import { counted, ensure, SpeadcastError } from '../errors.js'

/**
 * Options of `ImmediateColumn.setRamp`.
 * @example batch.immediate('timestamp').setRamp(0, 8192, { per: 'substream' })
 */
export interface RampOptions {
  /**
   * 'heap' (default): each heap of the batch is a step further than the one before it. 'substream': the heaps of each substream count by
   * themselves, as its receiver sees them.
   */
  per?: 'heap' | 'substream'
}

/**
 * The staged values of an immediate item: one number per heap, in the order of the heaps. Write it like any Float64Array, or by `setRamp`.
 * A part or a copy of one (`subarray`, `slice`) has no substreams.
 * @example batch.immediate('timestamp')[0] = 1.5e12
 */
export class ImmediateColumn extends Float64Array<ArrayBuffer> {
  #substreams: Uint16Array | undefined

  /** @internal */
  static over(buffer: ArrayBuffer, byteOffset: number, substreams: Uint16Array): ImmediateColumn {
    const column = new ImmediateColumn(buffer, byteOffset, substreams.length)
    column.#substreams = substreams
    return column
  }

  /**
   * Writes evenly spaced values: heap j gets first + j × step. With `per: 'substream'` heap k of the heaps that go to a substream, in the order
   * of the batch, gets first + k × step, whatever the group mode; `first` may then be a list with an entry for each substream.
   * @throws ERR_SPEADCAST_VALUE for what is no number, or a list that is too short; ERR_SPEADCAST_CONFIG for other options. Whether the item can
   *   have the values is checked by `send`.
   * @example batch.immediate('timestamp').setRamp(0, 8192, { per: 'substream' }) // of 4 substreams: 0, 0, 0, 0, 8192, 8192, …
   */
  setRamp(first: number | readonly number[], step: number, options: RampOptions = {}): void {
    checkOptions('setRamp', options, ['per'])
    const { per = 'heap' } = options
    ensure(
      per === 'heap' || per === 'substream',
      'ERR_SPEADCAST_CONFIG',
      () => `setRamp: per is ${shown(per)}; it must be ${oneOf(['heap', 'substream'])}`,
    )
    const firsts = typeof first === 'number' ? undefined : listOf(first)
    ensure(
      typeof step === 'number' && (typeof first === 'number' || (firsts && per === 'substream' && areNumbers(firsts))),
      'ERR_SPEADCAST_VALUE',
      () =>
        `setRamp: first is ${shown(first)}, step is ${shown(step)}; both must be numbers` +
        `${firsts ? ", or first a list of numbers with { per: 'substream' }" : ''}`,
    )
    if (per === 'substream') this.#setPerSubstream(firsts ?? first, step)
    else for (let j = 0; j < this.length; j++) this[j] = (first as number) + j * step
  }

  #setPerSubstream(first: number | readonly number[], step: number): void {
    const substreams = this.#substreams
    if (!substreams)
      throw new SpeadcastError(
        'ERR_SPEADCAST_VALUE',
        "setRamp: a part or a copy of a column has no substreams; call it on batch.immediate(name), or leave out per: 'substream'",
      )
    const count = substreams.reduce((most, substream) => Math.max(most, substream), 0) + 1
    ensure(
      typeof first === 'number' || first.length >= count,
      'ERR_SPEADCAST_VALUE',
      () =>
        `setRamp: first has ${counted((first as readonly number[]).length, 'number')}, and heaps go to substreams up to ${count - 1}; give ${count}`,
    )
    const starts = typeof first === 'number' ? new Float64Array(count).fill(first) : Float64Array.from(first)
    const heaps = new Float64Array(count)
    // There is a substream for each heap, and below `count`.
    for (let j = 0; j < this.length; j++) {
      const substream = substreams[j]!
      this[j] = starts[substream]! + heaps[substream]! * step
      heaps[substream]!++
    }
  }
}

const areNumbers = (values: readonly unknown[]): values is readonly number[] => values.every((value) => typeof value === 'number')
