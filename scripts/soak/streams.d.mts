export const HEAP_BYTES: number
export const HEAPS_A_BATCH: number
export const PACKET_BYTES: number
export const STREAMS: Readonly<
  Record<string, { readonly to: string; readonly rateBytesPerSecond: number; readonly options?: object }>
>
