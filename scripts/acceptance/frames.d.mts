export interface Datagram {
  readonly from: string
  readonly to: string
  readonly vlan: number | undefined
  readonly hops: number
  readonly fragment: boolean
  readonly destinationPort: number
  readonly ipChecksum: 'right' | 'wrong' | 'none'
  readonly udpChecksum: 'right' | 'wrong' | 'none'
  readonly payload: Buffer
}
export function framesOf(pcap: Buffer): { readonly bytes: Buffer; readonly cut: boolean }[]
export function datagramOf(frame: Buffer): Datagram | undefined
