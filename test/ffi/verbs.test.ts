/** The bindings of libibverbs and librdmacm against the software NIC: what it says of itself elsewhere is what we read. */
import { join } from 'node:path'
import { beforeEach, expect, test } from 'vitest'
import { koffi } from '#dist/ffi/koffi.js'
import { Region } from '#dist/ffi/memory/region.js'
import { NativeError } from '#dist/ffi/native-error.js'
import { deviceNames, VerbsContext } from '#dist/ffi/verbs/context.js'
import { IBV_CONTEXT, VERBS_CONTEXT } from '#dist/ffi/verbs/layout.js'
import { extendedOperation, VerbsLibrary, VerbsUnavailable } from '#dist/ffi/verbs/library.js'
import { deviceOfAddress } from '#dist/ffi/verbs/rdmacm.js'
import { SendQueue } from '#dist/ffi/verbs/send-queue.js'
import { WorkRequestChain } from '#dist/ffi/verbs/work-requests.js'
import { formatGid, parseAddress } from '#dist/src/net/address.js'
import { inNamespace, needNic, nicHere } from '../support/nic.js'

let library: VerbsLibrary
const here = nicHere({ veth: { mtu: 9000 } }, { mode: 'null', netdevs: ['v0'] }, ({ nic }) => {
  library = VerbsLibrary.load(nic.library)
})

beforeEach(needNic)

const opened = <T>(use: (context: VerbsContext) => T | Promise<T>): Promise<T> =>
  inNamespace(here.ns.name.a, async () => {
    const context = VerbsContext.open(library, 'softnic0')
    try {
      return await use(context)
    } finally {
      context.close()
    }
  })

test('devices, facts, port and GIDs', async () => {
  await inNamespace(here.ns.name.a, async () => expect(deviceNames(library)).toEqual(['softnic0']))
  const addresses = (
    JSON.parse(here.ns.ip('a', '-json address show v0')) as { addr_info: { local: string }[] }[]
  )[0]!.addr_info.map(({ local }) => local)
  const { ifindex } = JSON.parse(here.ns.ip('a', '-json link show v0'))[0]
  await opened((context) => {
    expect(context.facts()).toEqual({
      firmware: '1.0.0',
      vendorId: 0,
      partId: 1,
      ports: 1,
      maxWorkRequests: 32768,
      maxSges: 30,
      maxCqEntries: 4194303,
      checksumOffload: true,
      pacing: { minKbps: 1000, maxKbps: 100_000_000 },
    })
    // RoCE's 4096 fits into 9000; 4 lanes of 25 Gb/s.
    expect(context.port(1)).toEqual({ state: 4, activeMtu: 5, maxMtu: 5, lid: 0, width: 2, speed: 32, linkLayer: 2 })
    expect(() => context.port(2)).toThrow(/ibv_query_port failed: EINVAL/)
    const gids = context.gids()!
    expect(gids.every((gid, i) => gid.index === i && gid.port === 1 && gid.type === 2 && gid.ifindex === ifindex)).toBe(true)
    expect(gids.map(formatGid).sort()).toEqual([...new Set(addresses)].sort())
  })
  await inNamespace(here.ns.name.a, async () => {
    expect(() => VerbsContext.open(library, 'mlx5_0')).toThrow(/ibv_open_device failed: ENODEV \(mlx5_0\)/)
  })
})

/** Writes 8 bytes at an address of another library's memory, for as long as `body` runs. */
function patched<T>(address: number, value: bigint, body: () => T): T {
  const view = new DataView(koffi().view(BigInt(address), 8) as ArrayBuffer)
  const before = view.getBigUint64(0, true)
  view.setBigUint64(0, value, true)
  try {
    return body()
  } finally {
    view.setBigUint64(0, before, true)
  }
}

test('extended operations only by the access rule: of the extended kind, large enough to have it, and set', async () => {
  await opened((context) => {
    const find = (name: 'modify_qp_rate_limit' | 'query_device_ex') =>
      extendedOperation(context.pointer, name, 'int (uint64_t, uint64_t)')
    const at = (field: number) => context.pointer + field
    expect(find('modify_qp_rate_limit')).toBeTypeOf('function')
    expect(patched(at(IBV_CONTEXT.abi_compat), 0n, () => find('modify_qp_rate_limit'))).toBeUndefined()
    expect(patched(at(VERBS_CONTEXT.modify_qp_rate_limit), 0n, () => find('modify_qp_rate_limit'))).toBeUndefined()
    // verbs.h, verbs_get_ctx_op: sizeof(verbs_context) less the member's offset in it, which it must not be below.
    const needed = BigInt(IBV_CONTEXT.size - VERBS_CONTEXT.query_device_ex)
    expect(patched(at(VERBS_CONTEXT.sz), needed - 1n, () => find('query_device_ex'))).toBeUndefined()
    expect(patched(at(VERBS_CONTEXT.sz), needed, () => find('query_device_ex'))).toBeTypeOf('function')
    expect(patched(at(VERBS_CONTEXT.sz), needed, () => find('modify_qp_rate_limit'))).toBeUndefined()
  })
})

test('a provider without the extended query: the plain one tells all but pacing', async () => {
  await opened((context) => {
    const { pacing, ...known } = context.facts()
    expect(pacing).toBeDefined()
    const plain = patched(context.pointer + VERBS_CONTEXT.query_device_ex, 0n, () => context.facts())
    expect(plain).toEqual({ ...known, pacing: undefined })
  })
})

test('a queue without a rate limit in its provider says so', async () => {
  await opened((context) => {
    const domain = context.allocateDomain()
    const queue = new SendQueue(domain, { port: 1, depth: 64, sges: 2, completionVector: 9 })
    queue.ready()
    queue.limitRate(5000, 1500)
    expect(() => queue.limitRate(999, 1500)).toThrow(/ibv_modify_qp_rate_limit failed: EINVAL \(999 kb\/s\)/)
    const error = patched(context.pointer + VERBS_CONTEXT.modify_qp_rate_limit, 0n, () => {
      try {
        queue.limitRate(5000, 1500)
        return undefined
      } catch (cause) {
        return cause as NativeError
      }
    })
    expect(error).toBeInstanceOf(NativeError)
    expect(error!.errnoName).toBe('EOPNOTSUPP')
    queue.close()
    queue.close()
    domain.release()
    domain.release()
  })
})

test('what a device sees of a chain: as many as asked, from where asked, completions by row and chain', async () => {
  await opened((context) => {
    const domain = context.allocateDomain()
    const region = Region.allocate(4096, { hugePages: 'never' })
    const registration = domain.register(region.address, region.byteLength)
    const queue = new SendQueue(domain, { port: 1, depth: 16, sges: 2, completionVector: 0 })
    const chain = new WorkRequestChain(20, 40, 0x89abcdef, 4, true)
    for (let row = 0; row < 20; row++) {
      chain.request(row, 2 * row, 2)
      chain.sge(2 * row, region.address + 64 * row, 42, registration.lkey)
      chain.sge(2 * row + 1, region.address + 2048, 100, registration.lkey)
    }
    const completions = () => {
      const n = queue.poll()
      return Array.from({ length: n }, (_, i) => [queue.row(i), queue.chain(i), queue.status(i)])
    }
    // Not ready yet.
    expect([chain.post(queue, 0, 5), chain.errno]).toEqual([0, 22])
    queue.ready()
    expect([chain.post(queue, 2, 9), chain.errno]).toEqual([7, 0])
    // Every fourth, and the last of the post.
    expect(completions()).toEqual([
      [3, 0x89abcdef, 0],
      [7, 0x89abcdef, 0],
      [8, 0x89abcdef, 0],
    ])
    // Sixteen slots: the rest is refused with ENOMEM, those before it are on their way.
    expect([chain.post(queue, 0, 20), chain.errno]).toEqual([16, 12])
    expect(chain.unsignalledBefore(16)).toBe(0)
    expect(completions().map(([row]) => row)).toEqual([3, 7, 11, 15])
    chain.renumber(7)
    expect(chain.post(queue, 16, 20)).toBe(4)
    expect(completions()).toEqual([[19, 7, 0]])
    // A key that is no more: IBV_WC_LOC_PROT_ERR, and what is behind it flushed.
    registration.release()
    registration.release()
    expect(chain.post(queue, 0, 3)).toBe(3)
    expect(completions()).toEqual([
      [0, 7, 4],
      [1, 7, 5],
      [2, 7, 5],
    ])
    queue.reset()
    queue.ready()
    expect(completions()).toEqual([])
    queue.arm()
    queue.takeEvents()
    queue.close()
    chain.release()
    region.release()
    domain.release()
  })
})

test('memory that is not mapped cannot be registered', async () => {
  await opened((context) => {
    const domain = context.allocateDomain()
    expect(() => domain.register(4096, 4096)).toThrow(/ibv_reg_mr failed: EFAULT \(4096 bytes\)/)
    domain.release()
  })
})

test('asynchronous events come one by one, acknowledged, and then none', async () => {
  await opened(async (context) => {
    expect(context.event()).toBeUndefined()
    await here.nic.command('port down', 'port up')
    expect(context.event()).toEqual({ name: 'IBV_EVENT_PORT_ERR', element: 1 })
    expect(context.event()).toMatchObject({ name: 'IBV_EVENT_PORT_ACTIVE' })
    expect(context.event()).toBeUndefined()
    const domain = context.allocateDomain()
    const queue = new SendQueue(domain, { port: 1, depth: 16, sges: 1, completionVector: 0 })
    queue.ready()
    await here.nic.command('qp-fatal')
    expect(context.event()).toEqual({ name: 'IBV_EVENT_QP_FATAL', element: queue.qp })
    // Waits until every event of it was acknowledged.
    queue.close()
    domain.release()
  })
})

test('libraries that are missing or none', () => {
  expect(() => VerbsLibrary.load('/nonexistent.so')).toThrow(VerbsUnavailable)
  expect(() => VerbsLibrary.load('/nonexistent.so')).toThrow(
    /\/nonexistent\.so could not be loaded \(.*\); install it \(Debian: libibverbs1 and ibverbs-providers\)/,
  )
  expect(() => VerbsLibrary.load('libm.so.6')).toThrow(/libm\.so\.6 lacks ibv_get_device_list, .*; it is older than rdma-core 24/)
  expect(VerbsLibrary.load(here.nic.library)).toBe(library)
})

test('librdmacm knows the device of an address; without it, or without such a device, nobody does', async () => {
  const rdmacm = join(here.nic.library, '..', 'librdmacm.so.1')
  const ask = (address: string, path = rdmacm) =>
    inNamespace(here.ns.name.a, async () => deviceOfAddress(library, parseAddress(address)!, 0, path))
  expect(await ask('10.77.0.1')).toEqual({ device: 'softnic0', port: 1 })
  expect(await ask('fd77::1')).toEqual({ device: 'softnic0', port: 1 })
  expect(await ask('10.77.0.99')).toBeUndefined()
  expect(await ask('127.0.0.1')).toBeUndefined()
  expect(await ask('10.77.0.1', '/nonexistent.so')).toBeUndefined()
})

test('and all was given back', () => {
  expect(here.nic.cleanReport()).toMatchObject({ errors: 1, refused: 2 })
})
