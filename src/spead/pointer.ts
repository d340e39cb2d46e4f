import type { Flavour } from './flavour.js'
export interface Halves {
  readonly hi: number
  readonly lo: number
}
export function pointerBase(flavour: Flavour, id: number, immediate: boolean): Halves {
  throw new Error(`${flavour}${id}${immediate}`)
}
export function putPointer(view: DataView, at: number, hi: number, lo: number): void {
  view.setUint32(at, hi)
  view.setUint32(at + 4, lo)
}
