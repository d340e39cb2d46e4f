/**
 * A sender of datagrams (UD) asks its receiver over TCP, at the endpoint's own HOST:PORT, where to send them. The receiver writes
 * one line of JSON on every connection, and closes it:
 *
 *     {"speadcast":"rdma-ud","version":1,"gid":"::ffff:a00:2","lid":0,"qpn":17,"qkey":19088743,"mtuBytes":4096}
 *
 * Neither side knows who the other is (docs/rdma-ud.md). The receiver's connections are bounded, by doorkeeper.ts.
 */
import { createConnection, createServer, type Server } from 'node:net'
import * as v from 'valibot'
import { SpeadcastError } from '../errors.js'
import { formatAddress } from '../net/address.js'
import type { ResolvedEndpoint } from '../net/endpoint.js'
import { localInterfaces } from '../net/interface.js'
import { admit } from './doorkeeper.js'
import { parseGid } from './fabric.js'

/** The queue pair that takes the datagrams. */
export interface DatagramPeer {
  /** 16 bytes. */
  readonly gid: Uint8Array
  /** InfiniBand's local id; 0 with Ethernet. */
  readonly lid: number
  /** Number of the queue pair. */
  readonly qpn: number
  /** Its key. */
  readonly qkey: number
  /** The largest message that it takes; undefined where that is not known. */
  readonly mtuBytes?: number | undefined
}

/** librdmacm's key for UDP (rdma_cma.h), because with it one queue pair takes unicast and multicast. */
export const DEFAULT_QKEY = 0x01234567

const LONGEST_LINE = 4096
const whole = (most: number) => v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(most))
const line = v.object({
  speadcast: v.literal('rdma-ud'),
  version: v.literal(1),
  gid: v.pipe(
    v.string(),
    v.check((text) => parseGid(text) !== undefined),
  ),
  lid: whole(0xffff),
  qpn: whole(0xffffff),
  qkey: whole(0xffffffff),
  mtuBytes: v.pipe(whole(65536), v.minValue(256)),
})

/** Answers on an endpoint until closed; connections wait until `peer` is known. @throws (rejects) ERR_SPEADCAST_ENDPOINT */
export async function offerRendezvous(
  { text, address, port, scopeId }: ResolvedEndpoint,
  peer: Promise<DatagramPeer>,
): Promise<{ close(): void }> {
  const answer = peer.then(
    ({ gid, ...rest }) => `${JSON.stringify({ speadcast: 'rdma-ud', version: 1, gid: formatAddress(gid), ...rest })}\n`,
  )
  answer.catch(() => undefined)
  const server: Server = createServer((socket) => {
    admit(socket)
    answer.then(
      (text) => socket.end(text),
      () => socket.destroy(),
    )
  })
  await new Promise<void>((resolve, reject) => {
    // For good, because accept(2) fails too, for want of descriptors.
    server.on('error', (cause: NodeJS.ErrnoException) =>
      reject(
        new SpeadcastError('ERR_SPEADCAST_ENDPOINT', `cannot wait for senders on ${text} over TCP: ${cause.message}`, { cause }),
      ),
    )
    server.listen({ host: hostOf(address, scopeId), port, exclusive: true, ipv6Only: true }, resolve)
  })
  // The receiver's thread keeps the process alive; this server must not.
  server.unref()
  return { close: () => server.close() }
}

/** @throws (rejects) ERR_SPEADCAST_UNREACHABLE when nobody answers, or not as a receiver does */
export async function askRendezvous({ text, address, port, scopeId }: ResolvedEndpoint, timeoutMs: number): Promise<DatagramPeer> {
  const refuse = (why: string, cause?: unknown) =>
    new SpeadcastError(
      'ERR_SPEADCAST_UNREACHABLE',
      `${text}: ${why}; start \`speadcast recv --backend rdma-ud\` there first, or name the queue pair by rdmaUd.peers (--peer)`,
      { cause },
    )
  const answer = await new Promise<string>((resolve, reject) => {
    let got = ''
    const socket = createConnection({ host: hostOf(address, scopeId), port })
    const timer = setTimeout(() => {
      socket.destroy()
      reject(refuse(`no rdma-ud receiver answered over TCP in ${timeoutMs} ms`))
    }, timeoutMs)
    socket.setEncoding('utf8')
    socket.on('data', (text) => {
      got += text
      if (got.length > LONGEST_LINE || got.includes('\n')) socket.destroy()
    })
    socket.on('error', (cause: NodeJS.ErrnoException) =>
      reject(refuse(`no rdma-ud receiver answers over TCP (${cause.code})`, cause)),
    )
    socket.on('close', () => {
      clearTimeout(timer)
      resolve(got)
    })
  })
  const parsed = v.safeParse(line, parseJson(answer))
  if (!parsed.success)
    throw refuse(`what answers over TCP is no rdma-ud receiver of this version (${JSON.stringify(answer.slice(0, 60))})`)
  const { gid, lid, qpn, qkey, mtuBytes } = parsed.output
  return { gid: parseGid(gid)!, lid, qpn, qkey, mtuBytes }
}

/** The host as libuv takes it, which wants a zone by its name. */
function hostOf(address: string, scopeId: number): string {
  return scopeId === 0 ? address : `${address}%${localInterfaces().find(({ index }) => index === scopeId)?.name ?? scopeId}`
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
