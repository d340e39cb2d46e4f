/** The options that only some backends have a use for, and that the others would ignore. */
import type { BackendChoice, BackendName } from '../backend/names.js'
import { oneOf } from '../checks.js'
import { DEFAULTS, type StreamOptions } from './options.js'

const VERBS = ['ibverbs', 'rdma-ud'] as const
const SOCKETS = ['udp', 'dgram'] as const
const HEADERS = ['udp', 'dgram', 'ibverbs', 'rdma-ud', 'tcp', 'pcap'] as const

/** Each option with the backends that it is for, and the value that asks for nothing. */
const USES: readonly (readonly [option: keyof StreamOptions, backends: readonly BackendName[], unset?: unknown])[] = [
  ['pcapPath', ['pcap']],
  ['memory', ['memory']],
  ['ibverbs', VERBS],
  ['rdmaUd', ['rdma-ud']],
  ['udpPath', ['udp'], 'auto'],
  ['segmentation', ['udp'], 'auto'],
  ['neighbourTimeoutMs', ['udp', ...VERBS], DEFAULTS.neighbourTimeoutMs],
  ['allowFragmentation', SOCKETS, false],
  ['sendBufferBytes', [...SOCKETS, 'tcp']],
  ['ttl', HEADERS],
  ['dscp', HEADERS],
  ['sourcePort', HEADERS, 0],
  ['multicastLoop', [...SOCKETS, ...VERBS], true],
  ['reusePort', [...SOCKETS, 'ibverbs'], false],
  ['broadcast', [...SOCKETS, 'ibverbs'], false],
  ['ioThreads', ['udp', ...VERBS, 'tcp', 'pcap']],
]
/** Backends that 'auto' takes by itself. */
const BY_AUTO: readonly BackendName[] = ['ibverbs', 'udp', 'dgram']

/** Says which option the backend would ignore; undefined: none. */
export function ignoredOption(
  config: Readonly<Partial<Record<keyof StreamOptions, unknown>>>,
  backend: BackendChoice,
): string | undefined {
  for (const [option, backends, unset] of USES) {
    const value = config[option]
    if (value === undefined || value === unset) continue
    if (backend === 'auto' ? backends.some((one) => BY_AUTO.includes(one)) : backends.includes(backend)) continue
    return `${option} is only for backend${backends.length > 1 ? 's' : ''} ${namesOf(backends)}, not '${backend}'; leave it out`
  }
  return undefined
}

const namesOf = (backends: readonly string[]): string =>
  backends.length > 1 ? oneOf(backends).replace(/ or (?='[^']*'$)/, ' and ') : `'${backends[0]}'`
