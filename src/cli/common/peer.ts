import { InvalidArgumentError } from 'commander'
import type { RdmaUdPeer } from '../../index.js'

export type PeerFlag = RdmaUdPeer

const FORM = /^(?:(?<gid>[\da-f:.]*[:.][\da-f:.]*)\/)?(?<qpn>0x[\da-f]+|\d+)\/(?<qkey>0x[\da-f]+|\d+)(?:\/(?<lid>\d+))?$/i

/** Parses one more queue pair, such as `10.0.0.5/17/0x1234567`. */
export function peerList(text: string, before: readonly PeerFlag[] = []): PeerFlag[] {
  const { gid, qpn, qkey, lid } = FORM.exec(text)?.groups ?? {}
  if (qpn === undefined)
    throw new InvalidArgumentError(`'${text}' is no queue pair; write [GID/]QPN/QKEY[/LID], such as 10.0.0.5/17/0x1234567`)
  return [
    ...before,
    { qpn: Number(qpn), qkey: Number(qkey), ...(gid !== undefined && { gid }), ...(lid !== undefined && { lid: Number(lid) }) },
  ]
}

/** Writes a queue pair as `--peer` takes it. */
export function formatPeer({ gid = '', qpn, qkey = 0, lid = 0 }: RdmaUdPeer): string {
  return `${gid}/${qpn}/0x${qkey.toString(16)}${lid > 0 ? `/${lid}` : ''}`
}
