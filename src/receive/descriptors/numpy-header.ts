/**
 * Reads the header that numpy writes before an array (numpy.lib.format), which spead2 puts into a descriptor: descr, fortran_order
 * and shape.
 */

import { type NumpyDtype, readNumpyDtype } from '../../spead/numpy/dtype.js'
import { MAX_DIMENSIONS, Refusal, refuseUnless } from '../../spead/numpy/limits.js'
import { type PythonLiteral, PythonTuple, parsePythonLiteral } from '../../spead/numpy/literal.js'

export interface NumpyHeader {
  readonly shape: number[]
  readonly order: 'C' | 'F'
  readonly descr: PythonLiteral
}

/** @throws Refusal */
export function readNumpyHeader(text: string): NumpyHeader {
  const header = parsePythonLiteral(text)
  refuseUnless(header instanceof Map, () => 'the numpy header is no dict')
  const descr = header.get('descr')
  const fortran = header.get('fortran_order')
  const shape = header.get('shape')
  refuseUnless(
    header.size === 3 && descr !== undefined && fortran !== undefined && shape !== undefined,
    () => "the numpy header has other keys than 'descr', 'fortran_order' and 'shape'",
  )
  refuseUnless(typeof fortran === 'boolean', () => "the numpy header's fortran_order is neither True nor False")
  refuseUnless(shape instanceof PythonTuple, () => "the numpy header's shape is no tuple")
  const { items } = shape
  refuseUnless(items.length <= MAX_DIMENSIONS, () => `the shape has ${items.length} dimensions; at most ${MAX_DIMENSIONS}`)
  const dimensions = items.map((item) => {
    // True counts as 1 in Python.
    const size = typeof item === 'boolean' ? Number(item) : item
    refuseUnless(typeof size === 'number' && size >= 0, () => 'the shape has a dimension that is no whole number from 0 up')
    return size
  })
  return { shape: dimensions, order: fortran ? 'F' : 'C', descr }
}

/** @param swap whether the byte order is the opposite of what the header names @throws Refusal */
export function dtypeOf({ descr }: NumpyHeader, swap: boolean): NumpyDtype {
  const dtype = readNumpyDtype(descr, swap)
  if (dtype.itemBytes === 0) throw new Refusal('the dtype has elements of no bytes')
  return dtype
}
