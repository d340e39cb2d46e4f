/**
 * libibverbs by dlopen, at first use: a machine without it loads the package, sends by UDP, and is told what is missing. It is
 * never bundled, because its providers belong to the system's library (/etc/libibverbs.d).
 *
 * Pointers are Numbers, branded by the type they point to, because koffi checks nothing and a wrong pointer is a crash. `0` is C's
 * NULL. post_send, poll_cq and req_notify_cq are static inline functions of the header, so they are called through the context's
 * table of operations.
 */
import { distrusted, trustedVariable } from '../environment.js'
import { koffi } from '../koffi.js'
import { errno, libc } from '../libc.js'
import { readPointer, readString, readU32 } from '../memory/store-pointer.js'
import { ERRNO, NativeError } from '../native-error.js'
import { IBV_CONTEXT, VERBS_CONTEXT } from './layout.js'

declare const pointee: unique symbol
export type Pointer<Kind extends string> = number & { readonly [pointee]: Kind }

type Context = Pointer<'ibv_context'>

const PROTOTYPES = {
  ibv_get_device_list: 'uint64_t ibv_get_device_list(uint64_t num)',
  ibv_free_device_list: 'void ibv_free_device_list(uint64_t list)',
  ibv_get_device_name: 'uint64_t ibv_get_device_name(uint64_t device)',
  ibv_open_device: 'uint64_t ibv_open_device(uint64_t device)',
  ibv_close_device: 'int ibv_close_device(uint64_t context)',
  ibv_query_device: 'int ibv_query_device(uint64_t context, uint64_t attr)',
  ibv_query_port: 'int ibv_query_port(uint64_t context, uint8_t port, uint64_t attr)',
  ibv_query_gid: 'int ibv_query_gid(uint64_t context, uint8_t port, int index, uint64_t gid)',
  ibv_alloc_pd: 'uint64_t ibv_alloc_pd(uint64_t context)',
  ibv_dealloc_pd: 'int ibv_dealloc_pd(uint64_t pd)',
  ibv_reg_mr: 'uint64_t ibv_reg_mr(uint64_t pd, uint64_t addr, size_t length, int access)',
  ibv_dereg_mr: 'int ibv_dereg_mr(uint64_t mr)',
  ibv_create_comp_channel: 'uint64_t ibv_create_comp_channel(uint64_t context)',
  ibv_destroy_comp_channel: 'int ibv_destroy_comp_channel(uint64_t channel)',
  ibv_create_cq: 'uint64_t ibv_create_cq(uint64_t context, int cqe, uint64_t cq_context, uint64_t channel, int comp_vector)',
  ibv_destroy_cq: 'int ibv_destroy_cq(uint64_t cq)',
  ibv_get_cq_event: 'int ibv_get_cq_event(uint64_t channel, uint64_t cq, uint64_t cq_context)',
  ibv_ack_cq_events: 'void ibv_ack_cq_events(uint64_t cq, uint nevents)',
  ibv_create_qp: 'uint64_t ibv_create_qp(uint64_t pd, uint64_t init_attr)',
  ibv_create_ah: 'uint64_t ibv_create_ah(uint64_t pd, uint64_t attr)',
  ibv_destroy_ah: 'int ibv_destroy_ah(uint64_t ah)',
  ibv_attach_mcast: 'int ibv_attach_mcast(uint64_t qp, uint64_t gid, uint16_t lid)',
  ibv_detach_mcast: 'int ibv_detach_mcast(uint64_t qp, uint64_t gid, uint16_t lid)',
  ibv_modify_qp: 'int ibv_modify_qp(uint64_t qp, uint64_t attr, int mask)',
  ibv_destroy_qp: 'int ibv_destroy_qp(uint64_t qp)',
  ibv_fork_init: 'int ibv_fork_init()',
  ibv_get_async_event: 'int ibv_get_async_event(uint64_t context, uint64_t event)',
  ibv_ack_async_event: 'void ibv_ack_async_event(uint64_t event)',
} as const
/** Functions that the oldest supported version (rdma-core 24) lacks; used where they are. */
const OPTIONAL = {
  ibv_is_fork_initialized: 'int ibv_is_fork_initialized()',
  ibv_reg_mr_iova2: 'uint64_t ibv_reg_mr_iova2(uint64_t pd, uint64_t addr, size_t length, uint64_t iova, uint access)',
  _ibv_query_gid_table:
    'intptr_t _ibv_query_gid_table(uint64_t context, uint64_t entries, size_t max_entries, uint flags, size_t entry_size)',
} as const

type Required = keyof typeof PROTOTYPES
type Optional = keyof typeof OPTIONAL
type Native = (...args: number[]) => number

/** Operations of a context that the library does not export. */
export interface ContextOperations {
  /** int (qp, wr, **bad_wr): 0 or a positive errno. */
  readonly postSend: Native
  /** int (qp, wr, **bad_wr): 0 or a positive errno. */
  readonly postReceive: Native
  /** int (cq, n, *wc): completions, or negative. */
  readonly pollCq: Native
  /** int (cq, solicited_only) */
  readonly reqNotifyCq: Native
}

const DEFAULT_VERBS_LIBRARY = 'libibverbs.so.1'

/** The library cannot be used. `message` says why, and which package has it. */
export class VerbsUnavailable extends Error {
  override readonly name = 'VerbsUnavailable'
}

/** Names libibverbs where no option does. */
const VERBS_VARIABLE = 'SPEADCAST_VERBS_LIBRARY'

const loaded = new Map<string, VerbsLibrary>()

export class VerbsLibrary {
  readonly call: Readonly<Record<Required, Native>>
  readonly optional: Readonly<Record<Optional, Native | undefined>>
  readonly #operations = new Map<number, ContextOperations>()

  /**
   * @param path name or path; default SPEADCAST_VERBS_LIBRARY (ffi/environment.ts), then libibverbs.so.1. @throws VerbsUnavailable
   */
  static load(path = trustedVariable(VERBS_VARIABLE) ?? DEFAULT_VERBS_LIBRARY): VerbsLibrary {
    const library = loaded.get(path) ?? new VerbsLibrary(path)
    loaded.set(path, library)
    return library
  }

  private constructor(readonly path: string) {
    if (process.platform !== 'linux') throw new VerbsUnavailable(`libibverbs is Linux only, this is ${process.platform}`)
    // Fork protection on small pages alone makes ibv_reg_mr refuse parts of a reserved huge page. The library reads its C environment,
    // of which a worker's process.env is a copy. Given by the user, the variable stays.
    libc().setenv('RDMAV_HUGEPAGES_SAFE', '1', 0)
    let library: ReturnType<ReturnType<typeof koffi>['load']>
    try {
      library = koffi().load(path)
    } catch (cause) {
      throw new VerbsUnavailable(
        `${path} could not be loaded (${(cause as Error).message}); install it (Debian: libibverbs1 and ibverbs-providers)${distrusted(VERBS_VARIABLE)}`,
        { cause },
      )
    }
    const bind = (prototype: string): Native | undefined => {
      try {
        return library.func(prototype) as Native
      } catch {
        return undefined
      }
    }
    this.call = Object.fromEntries(Object.entries(PROTOTYPES).map(([name, prototype]) => [name, bind(prototype)])) as Record<
      Required,
      Native
    >
    this.optional = Object.fromEntries(Object.entries(OPTIONAL).map(([name, prototype]) => [name, bind(prototype)])) as Record<
      Optional,
      Native | undefined
    >
    const missing = Object.keys(PROTOTYPES).filter((name) => this.call[name as Required] === undefined)
    if (missing.length > 0) throw new VerbsUnavailable(`${path} lacks ${missing.join(', ')}; it is older than rdma-core 24`)
    // Node forks for every child process, and without copy-on-fork (Linux 5.12) the child may take the pages of the provider's rings
    // (ibv_fork_init(3)). EINVAL: somebody else has registered memory before, and it is too late.
    this.call.ibv_fork_init()
  }

  /** Calls a function that returns a pointer. @throws NativeError with errno when it returns NULL */
  pointer<Kind extends string>(name: Required, ...args: number[]): Pointer<Kind> {
    const result = this.call[name](...args)
    if (result === 0) throw new NativeError(name, errno())
    return result as Pointer<Kind>
  }

  /** Calls a function that returns 0, a positive errno, or −1 with errno set. @throws NativeError */
  done(name: Required, detail: string, ...args: number[]): void {
    const result = this.call[name](...args)
    if (result !== 0) throw new NativeError(name, result > 0 ? result : errno(), detail)
  }

  /** The operations of a context, which are the same for all its queues. */
  operations(context: Context): ContextOperations {
    let found = this.#operations.get(context)
    if (!found) {
      found = {
        postSend: at(context + IBV_CONTEXT['ops.post_send'], 'int (uint64_t, uint64_t, uint64_t)'),
        postReceive: at(context + IBV_CONTEXT['ops.post_recv'], 'int (uint64_t, uint64_t, uint64_t)'),
        pollCq: at(context + IBV_CONTEXT['ops.poll_cq'], 'int (uint64_t, int, uint64_t)'),
        reqNotifyCq: at(context + IBV_CONTEXT['ops.req_notify_cq'], 'int (uint64_t, int)'),
      }
      this.#operations.set(context, found)
    }
    return found
  }

  /** Call it before the context is closed, because another one may be opened at the same address. */
  forget(context: Context): void {
    this.#operations.delete(context)
  }
}

function at(address: number, prototype: string): Native {
  const k = koffi()
  return k.decode(BigInt(readPointer(address)), k.proto(prototype)) as Native
}

/**
 * An extended operation, by verbs_context's rule (verbs_get_ctx_op of verbs.h): the context must be of the extended kind, its
 * struct large enough to have the member, and the member set. An operation that is not supported may also be a stub that returns
 * EOPNOTSUPP.
 */
export function extendedOperation(
  context: Context,
  name: Exclude<keyof typeof VERBS_CONTEXT, 'sz'>,
  prototype: string,
): Native | undefined {
  const compat = context + IBV_CONTEXT.abi_compat
  if (readU32(compat) !== 0xffffffff || readU32(compat + 4) !== 0xffffffff) return undefined
  const size = readPointer(context + VERBS_CONTEXT.sz)
  const member = context + VERBS_CONTEXT[name]
  if (size < IBV_CONTEXT.size - VERBS_CONTEXT[name] || readPointer(member) === 0) return undefined
  return at(member, prototype)
}

/** IBV_SYSFS_NAME_MAX. */
const NAME_BYTES = 64

export function readDeviceName(library: VerbsLibrary, context: number): string {
  return readString(library.call.ibv_get_device_name(readPointer(context)), NAME_BYTES)
}

export const NOT_SUPPORTED: ReadonlySet<number> = new Set([ERRNO.EOPNOTSUPP, ERRNO.ENOSYS])
