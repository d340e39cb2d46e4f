export interface Peer {
  readonly name: string
  readonly command: string
}
export function parsePeer(text: string, taken: readonly string[]): Peer
export function peerCommand(
  command: string,
  point: {
    readonly heapSizeBytes: number
    readonly packetSizeBytes: number
    readonly batches: number
    readonly heaps: number
    readonly address: string
    readonly port: number
  },
): { readonly text: string; readonly env: Record<string, string> }
export function heedsHeaps(command: string): boolean
export function peerRate(stdout: string): number
