/** Loads libibverbs, and turns its refusals into errors with a remedy. Cold. */
import { NativeError } from '../../ffi/native-error.js'
import { VerbsLibrary, VerbsUnavailable } from '../../ffi/verbs/library.js'
import { BackendRefused, type SpeadcastError } from '../errors.js'
import { inUserNamespace } from './rights.js'

export type VerbsBackendName = 'ibverbs' | 'rdma-ud'

/** @throws ERR_SPEADCAST_BACKEND when the library cannot be loaded */
export function loadLibrary(backend: VerbsBackendName, path: string | undefined): VerbsLibrary {
  try {
    return VerbsLibrary.load(path)
  } catch (cause) {
    if (!(cause instanceof VerbsUnavailable)) throw cause
    throw new BackendRefused(backend, cause.message, { cause })
  }
}

/** Runs `call`; turns a failed native call in it into a refusal with a remedy. @throws ERR_SPEADCAST_BACKEND */
export function explained<T>(backend: VerbsBackendName, call: () => T): T {
  try {
    return call()
  } catch (error) {
    throw error instanceof NativeError ? refused(backend, error) : error
  }
}

export function refused(backend: VerbsBackendName, cause: NativeError): SpeadcastError {
  return new BackendRefused(backend, whyRefused(backend, cause), { cause })
}

const ROOTLESS =
  'this process is in a user namespace, as in a rootless container, whose capabilities the ib_uverbs of this kernel does not count'
const CAPABILITIES =
  'give node the capability by `setpriv --ambient-caps +net_raw --inh-caps +net_raw node …`, by AmbientCapabilities=CAP_NET_RAW in a systemd unit, or by --cap-add=NET_RAW of docker (setcap on node itself makes the loader ignore LD_LIBRARY_PATH)'

/** Says what a failed call of libibverbs means, and the remedy. */
export function whyRefused(backend: VerbsBackendName, cause: NativeError): string {
  const { call, errnoName } = cause
  if (backend === 'ibverbs' && call === 'ibv_create_qp' && ['EPERM', 'EINVAL', 'EACCES'].includes(errnoName))
    return inUserNamespace()
      ? `raw packet queue pairs need CAP_NET_RAW of the host: ${cause.message}; ${ROOTLESS}; run it as root of the host, or in a container that root started with --cap-add=NET_RAW`
      : `raw packet queue pairs need CAP_NET_RAW: ${cause.message}; ${CAPABILITIES}`
  if (call === 'ibv_create_qp' && errnoName === 'EOPNOTSUPP')
    return backend === 'ibverbs'
      ? `the device has no raw packet queue pairs: ${cause.message}, errno ${cause.errno}; soft-RoCE and InfiniBand links have none, use backend 'udp'`
      : `the device has no datagram (UD) queue pairs: ${cause.message}, errno ${cause.errno}; iWARP has none, use backend 'udp'`
  if (['ibv_reg_mr', 'ibv_create_cq', 'ibv_create_qp'].includes(call) && errnoName === 'ENOMEM')
    return `the memory cannot be locked: ${cause.message}; raise RLIMIT_MEMLOCK: \`ulimit -l unlimited\`, LimitMEMLOCK=infinity in a systemd unit, or --ulimit memlock=-1 of docker${inUserNamespace() ? `. CAP_IPC_LOCK does not help, because ${ROOTLESS}` : ''}`
  if (call === 'ibv_reg_mr' && errnoName === 'EINVAL')
    return `the memory cannot be registered: ${cause.message}; either the device cannot map it, or fork protection (ibv_fork_init, IBV_FORK_SAFE) counts small pages and the memory lies in huge ones: set RDMAV_HUGEPAGES_SAFE=1 before node starts`
  if (call === 'ibv_get_device_list' && errnoName === 'ENOSYS')
    return 'this kernel has no RDMA devices (no ib_uverbs module loaded)'
  if (call === 'ibv_get_device_list' || call === 'ibv_open_device')
    return `${cause.message}; /dev/infiniband must be there and open to you (docker: --device=/dev/infiniband)`
  return cause.message
}
