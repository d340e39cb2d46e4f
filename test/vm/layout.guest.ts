/**
 * The layouts of ffi/verbs/layout.ts against live objects of Debian's libibverbs, its rxe provider and the kernel. The expected
 * values come from ibv_devinfo, which is compiled against the headers, from sysfs, and from the kernel's own account (rdma res).
 */
import assert from 'node:assert/strict'
import { readFileSync, readlinkSync } from 'node:fs'
import { test } from 'node:test'
import { Region } from '#dist/ffi/memory/region.js'
import { readPointer } from '#dist/ffi/memory/store-pointer.js'
import { AddressHandle } from '#dist/ffi/verbs/context.js'
import { IBV_CONTEXT, VERBS_CONTEXT } from '#dist/ffi/verbs/layout.js'
import { extendedOperation } from '#dist/ffi/verbs/library.js'
import { PollSet } from '#dist/ffi/wait.js'
import { resources, sh, until, withContext } from './support.js'
import { GRH_BYTES, UdQueue } from './ud.js'

/** A field as `ibv_devinfo -v` prints it. */
function devinfo(device: string): (field: string) => string {
  const text = sh(`ibv_devinfo -v -d ${device}`)
  return (field) => {
    const found = text.match(new RegExp(`^\\s*${field}:\\s*(.*)$`, 'm'))
    assert.ok(found, `ibv_devinfo has no ${field}:\n${text}`)
    return found[1]!.trim()
  }
}

/** The mapped file that an address of code lies in. */
function codeAt(address: number): string {
  for (const line of readFileSync('/proc/self/maps', 'utf8').split('\n')) {
    const [, from, to, rights, file] = line.match(/^(\w+)-(\w+) (\S+) .*?(\/\S+)?$/) ?? []
    if (from && address >= Number.parseInt(from, 16) && address < Number.parseInt(to!, 16)) return `${rights} ${file}`
  }
  return 'nowhere'
}

test('device attributes are what ibv_devinfo says', async () => {
  const said = devinfo('rxe0')
  await withContext('rxe0', (context) => {
    const facts = context.facts()
    assert.deepEqual(
      {
        firmware: facts.firmware,
        vendorId: facts.vendorId,
        partId: facts.partId,
        ports: facts.ports,
        maxWorkRequests: facts.maxWorkRequests,
        maxSges: facts.maxSges,
        maxCqEntries: facts.maxCqEntries,
        vectors: context.completionVectors,
      },
      {
        firmware: said('fw_ver'),
        vendorId: Number(said('vendor_id')),
        partId: Number(said('vendor_part_id')),
        ports: Number(said('phys_port_cnt')),
        maxWorkRequests: Number(said('max_qp_wr')),
        maxSges: Number(said('max_sge')),
        maxCqEntries: Number(said('max_cqe')),
        vectors: Number(said('num_comp_vectors')),
      },
    )
    assert.equal(said('qp_rate_limit_max'), '0kbps')
    assert.equal(facts.pacing, undefined)
    // ibv_devinfo lists RAW_IP_CSUM (bit 26 of device_cap_flags) and raw_packet_caps only of devices that have them.
    assert.equal(facts.checksumOffload, (Number(said('device_cap_flags')) & (1 << 26)) !== 0)
  })
})

test('port attributes are what ibv_devinfo says', async () => {
  const said = devinfo('rxe0')
  const number = (field: string) => Number(said(field).match(/\((\d+)\)/)![1])
  await withContext('rxe0', (context) => {
    assert.equal(said('link_layer'), 'Ethernet')
    assert.deepEqual(context.port(1), {
      state: number('state'),
      activeMtu: number('active_mtu'),
      maxMtu: number('max_mtu'),
      lid: Number(said('port_lid')),
      width: number('active_width'),
      speed: number('active_speed'),
      linkLayer: 2,
    })
    assert.throws(() => context.port(2), /ibv_query_port failed: EINVAL \(rxe0 port 2\)/)
  })
})

test('the data path is the provider’s, found through the live context', async () => {
  await withContext('rxe0', (context) => {
    const operation = (field: 'ops.poll_cq' | 'ops.post_send' | 'ops.req_notify_cq') =>
      codeAt(readPointer(context.pointer + IBV_CONTEXT[field]))
    assert.match(operation('ops.poll_cq'), /^r-xp .*\/librxe-/)
    assert.match(operation('ops.post_send'), /^r-xp .*\/librxe-/)
    // rxe leaves it to the library's general one.
    assert.match(operation('ops.req_notify_cq'), /^r-xp .*\/(librxe-|libibverbs\.so)/)
    const modes = ['query_device_ex', 'create_qp_ex', 'modify_qp_rate_limit'] as const
    for (const name of modes)
      assert.match(codeAt(readPointer(context.pointer + VERBS_CONTEXT[name])), /^r-xp .*\/lib(rxe-|ibverbs)/)
    // sizeof(struct verbs_context): 648 in rdma-core 24 to 64, and all of the abi_compat word set says that it is there.
    assert.equal(readPointer(context.pointer + VERBS_CONTEXT.sz), 648)
    assert.ok(extendedOperation(context.pointer, 'query_device_ex', 'int (uint64_t, uint64_t, uint64_t, size_t)'))
    assert.match(readlinkSync(`/proc/self/fd/${context.asyncFd}`), /infinibandevent/)
  })
})

test('queues, registrations and what the kernel says of them', async () => {
  await withContext('rxe0', (context) => {
    const domain = context.allocateDomain()
    const region = Region.allocate(1 << 20)
    const registration = domain.register(region.address, region.byteLength)
    const queue = new UdQueue(context, domain, { depth: 20, psn: 0xabcdef })
    const mine = (kind: 'qp' | 'cq' | 'mr') => resources(kind, 'rxe0').filter(({ pid }) => pid === process.pid)
    const [qp] = mine('qp')
    assert.deepEqual(
      [qp?.lqpn, qp?.type, qp?.state, qp?.['sq-psn']],
      [queue.number, 'UD', 'RTS', 0xabcdef],
      'number, type, state and first sequence number',
    )
    assert.ok(Number(mine('cq')[0]!.cqe) >= 40)
    const [mr] = mine('mr')
    assert.deepEqual([Number.parseInt(`${mr?.lkey}`, 16), Number(mr?.mrlen)], [registration.lkey, region.byteLength])
    assert.match(readlinkSync(`/proc/self/fd/${queue.channelFd}`), /infinibandevent/)
    queue.close()
    registration.release()
    domain.release()
    assert.deepEqual([...mine('qp'), ...mine('cq'), ...mine('mr')], [])
    region.release()
  })
  assert.deepEqual(
    resources('ctx', 'rxe0').filter(({ pid }) => pid === process.pid),
    [],
  )
})

test('a chain of work requests arrives on another device, gathered, and wakes by the completion channel', async () => {
  await withContext('rxe0', (from) =>
    withContext('rxe1', async (to) => {
      const region = Region.allocate(1 << 16, { hugePages: 'never' })
      const bytes = new Uint8Array(region.buffer)
      const [sendDomain, receiveDomain] = [from.allocateDomain(), to.allocateDomain()]
      const sent = sendDomain.register(region.address, 1 << 15)
      const received = receiveDomain.register(region.address + (1 << 15), 1 << 15)
      const sender = new UdQueue(from, sendDomain)
      const receiver = new UdQueue(to, receiveDomain)
      const gids = { from: from.gids()!, to: to.gids()! }
      const v4 = (all: typeof gids.from) => all.find(({ bytes: b }) => b[10] === 0xff && b[12] === 10)!
      const ah = new AddressHandle(sendDomain, {
        gid: v4(gids.to).bytes,
        lid: 0,
        port: 1,
        sourceGidIndex: v4(gids.from).index,
        hopLimit: 64,
        trafficClass: 0,
      })
      for (let i = 0; i < 4000; i++) bytes[i] = (i * 7) & 0xff

      const pollSet = new PollSet(2)
      const ready = (timeoutMs: number) => {
        pollSet.reset()
        pollSet.add(sender.channelFd)
        pollSet.add(receiver.channelFd)
        const n = pollSet.wait(timeoutMs * 1e6)
        return n === 0 ? [] : [0, 1].filter((i) => pollSet.revents(i) !== 0)
      }
      assert.equal(sender.takeEvents(), 0, 'not armed, no event')
      assert.equal(sender.arm(), 0)
      assert.deepEqual(ready(50), [], 'armed, nothing completed')
      const SLOT = 4096 + GRH_BYTES
      for (const i of [0, 1, 2]) receiver.receive(100 + i, region.address + (1 << 15) + i * SLOT, SLOT, received.lkey)
      const segments = [
        { at: region.address, byteLength: 40, lkey: sent.lkey },
        { at: region.address + 1000, byteLength: 3000, lkey: sent.lkey },
      ]
      sender.send([2 ** 40 + 5, 2 ** 40 + 6, 2 ** 40 + 7], segments, ah.pointer, receiver.number)
      await until(
        () => ready(50),
        (fds) => fds.includes(0),
      )
      assert.equal(sender.takeEvents(), 1)
      const completions = await until(
        () => sender.poll(),
        (all) => all.length > 0,
      )
      assert.deepEqual(completions, [{ id: 2 ** 40 + 7, status: 0 }], 'only the signalled one')

      const arrived: number[] = []
      await until(
        () => arrived.push(...receiver.poll().map(({ id, status }) => (status === 0 ? id : -status))),
        (n) => n === 3,
      )
      assert.deepEqual(arrived, [100, 101, 102])
      const expected = Buffer.concat([bytes.subarray(0, 40), bytes.subarray(1000, 4000)])
      for (const i of [0, 1, 2]) {
        const at = (1 << 15) + i * SLOT + GRH_BYTES
        assert.ok(Buffer.from(bytes.subarray(at, at + 3040)).equals(expected), `message ${i}`)
      }
      // Not armed again, so a completion makes no event until it is.
      receiver.receive(103, region.address + (1 << 15), SLOT, received.lkey)
      sender.send([9], segments, ah.pointer, receiver.number)
      await until(
        () => sender.poll().length,
        (n) => n === 1,
      )
      assert.equal(sender.takeEvents(), 0)
      ah.release()
      sender.close()
      receiver.close()
      for (const thing of [sent, received, sendDomain, receiveDomain]) thing.release()
      region.release()
    }),
  )
})

test('asynchronous events are read with their port', async () => {
  try {
    await withContext('rxe1', async (context) => {
      assert.equal(context.event(), undefined)
      sh('ip link set rx1 down')
      const seen: string[] = []
      await until(
        () => {
          const event = context.event()
          if (event) seen.push(`${event.name} ${event.element}`)
          return seen
        },
        (all) => all.includes('IBV_EVENT_PORT_ERR 1'),
      )
      assert.notEqual(context.port(1).state, 4)
    })
  } finally {
    sh('rxe up')
  }
})
