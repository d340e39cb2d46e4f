import { attachRegion, Region } from './region.js'

/**
 * A small piece of mapped memory for the arguments of system calls, with the views needed to fill it. Its owner reuses it for every call.
 */
export class Scratch {
  readonly region: Region
  readonly address: number
  readonly u8: Uint8Array<ArrayBuffer>
  readonly i32: Int32Array<ArrayBuffer>
  readonly view: DataView<ArrayBuffer>
  constructor(byteLength: number) {
    this.region = Region.allocate(byteLength, { hugePages: 'never' })
    const buffer = attachRegion(this.region)
    this.address = this.region.address
    this.u8 = new Uint8Array(buffer)
    this.i32 = new Int32Array(buffer)
    this.view = new DataView(buffer)
  }
  /** Copies `bytes` to the start and returns the address. */
  put(bytes: Uint8Array): number {
    this.u8.set(bytes)
    return this.address
  }
  putPointer(at: number, address: number): void {
    this.view.setUint32(at, address >>> 0, true)
    this.view.setUint32(at + 4, Math.floor(address / 2 ** 32), true)
  }
}
