/** Chooses the backend for `auto`, and says why it is none of the others. */
import { trustedVariable } from '../../ffi/environment.js'
import { libc } from '../../ffi/libc.js'
import { netlinkRefused } from '../../ffi/netlink/refused.js'
import { BackendRefused, SpeadcastError } from '../errors.js'
import type { BackendChoice, BackendName } from './names.js'
import type { Wanted } from './verbs/probe.js'

export interface Selection {
  readonly backend: BackendName
  /** For a person: why this one and not a faster one. */
  readonly reason: string
}

/** @throws ERR_SPEADCAST_BACKEND when a backend was asked for by name that cannot work here; ERR_SPEADCAST_BUNDLED */
export async function selectBackend(choice: BackendChoice, wanted: Wanted): Promise<Selection> {
  if (choice === 'tcp') {
    const refused = process.platform === 'linux' ? koffiRefused() : `it needs Linux, this is ${process.platform}`
    if (refused) throw new BackendRefused('tcp', `${refused}; send by UDP, to HOST:PORT`)
  }
  // Opening it says why it cannot work, if it cannot.
  if (choice !== 'auto' && choice !== 'udp') return { backend: choice, reason: 'asked for' }
  const refused = udpRefused()
  // Rather than a slow backend that nobody asked for.
  if (refused) throwIfCopied()
  if (choice === 'udp') {
    if (refused) throw new BackendRefused('udp', `${refused}; use backend 'dgram' or 'auto'`)
    return { backend: 'udp', reason: 'asked for' }
  }
  if (refused) return { backend: 'dgram', reason: `udp: ${refused}` }
  const noVerbs = await ibverbsRefused(wanted)
  if (!noVerbs) return { backend: 'ibverbs', reason: 'raw packets through the RDMA device behind the interface' }
  return udpInstead(noVerbs)
}

/** The choice of `auto` where ibverbs turns out not to work. */
export function udpInstead(noVerbs: string): Selection {
  return { backend: 'udp', reason: `sendmmsg with segmentation offload; ibverbs: ${noVerbs}` }
}

/** Why ibverbs cannot send to these endpoints; undefined if it can. */
export async function ibverbsRefused(wanted: Wanted): Promise<string | undefined> {
  const refused = udpRefused()
  if (refused) return refused
  if (wanted.allowFragmentation) return 'it never fragments, and allowFragmentation is set'
  if (wanted.ttl === 0) return 'ttl 0 keeps packets on this host, whose kernel does not see its packets'
  if (!wanted.verbsLibrary && noDevices()) return `this machine has no RDMA devices (${SYSFS} is empty or not there)`
  return (await import('./verbs/probe.js')).probeIbverbs(wanted)
}

/** Why datagrams of the fabric cannot be sent from the port that leads to these endpoints; undefined if they can. */
export async function rdmaUdRefused(wanted: Wanted): Promise<string | undefined> {
  return udpRefused() ?? (await import('./verbs/probe.js')).probeRdmaUd(wanted)
}

/** Why backend 'udp', and any that asks the kernel for paths, cannot be used; undefined if it can. */
export function udpRefused(): string | undefined {
  if (process.platform !== 'linux') return `sendmmsg(2) with UDP_SEGMENT is Linux only, this is ${process.platform}`
  return koffiRefused() ?? netlinkRefused()
}

/** Why there can be no I/O thread here; undefined where there can. */
export function threadRefused(): string | undefined {
  if (process.platform !== 'linux') return `it waits in Linux's poll(2) and eventfd(2), this is ${process.platform}`
  return koffiRefused()
}

const SYSFS = '/sys/class/infiniband'

/**
 * Whether libibverbs would find no device. Most machines have none, and libibverbs itself takes some 15 ms to say so. A library from
 * elsewhere may know devices that the kernel does not.
 */
export function noDevices(): boolean {
  if (trustedVariable('SPEADCAST_VERBS_LIBRARY') || process.env.LD_LIBRARY_PATH || process.env.LD_PRELOAD) return false
  const { existsSync, readdirSync } = process.getBuiltinModule('node:fs')
  try {
    return existsSync('/sys/class/net') && !(existsSync(SYSFS) && readdirSync(SYSFS).length > 0)
  } catch {
    return false
  }
}

function koffiRefused(): string | undefined {
  const failure = koffiFailure()
  if (!failure || failure instanceof SpeadcastError) return failure?.message
  return `koffi could not be loaded (${failure.message}); was it installed with --omit=optional?`
}

function koffiFailure(): Error | undefined {
  try {
    libc()
    return undefined
  } catch (cause) {
    return cause as Error
  }
}

function throwIfCopied(): void {
  const failure = process.platform === 'linux' ? koffiFailure() : undefined
  if (failure instanceof SpeadcastError && failure.code === 'ERR_SPEADCAST_BUNDLED') throw failure
}
