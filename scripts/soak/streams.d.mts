interface SoakStream {
  readonly to: string
  readonly rateBytesPerSecond: number
  readonly keepsRate?: boolean
  readonly loop?: boolean
}
export const HEAP_BYTES: number
export const HEAPS_A_BATCH: number
export const NUMBERS: number
export const PACKET_BYTES: number
export const STREAMS: Readonly<Record<string, SoakStream>>
