import type { Dtype } from './dtype.js'
import type { Flavour } from './flavour.js'
export type FormatField = readonly [code: string, bits: number]
export interface ItemOptions {
  id?: number
  name: string
  description?: string
  shape?: readonly (number | null)[]
  dtype?: string
  format?: readonly FormatField[]
  order?: 'C' | 'F'
}
export class Descriptor {
  readonly id!: number
  readonly name!: string
  readonly description!: string
  readonly shape!: readonly (number | null)[]
  readonly dtype: Dtype | undefined
  readonly format: readonly FormatField[] | undefined
  readonly order!: 'C' | 'F'
  readonly variable!: boolean
  readonly byteLength: number | undefined
  readonly allowImmediate!: boolean
  constructor(options: ItemOptions) {
    throw new Error(`${options}`)
  }
  encode(flavour: Flavour): Uint8Array {
    throw new Error(`${flavour}`)
  }
}
