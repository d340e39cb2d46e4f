/**
 * A queue pair that cannot be reset is replaced by another, and from then on the thread waits for the new one. The software NIC
 * never refuses a reset, so the call is intercepted where it leaves JavaScript; everything else is real, in this process.
 */
import { readdirSync } from 'node:fs'
import { beforeEach, expect, test } from 'vitest'
import { koffi } from '#dist/ffi/koffi.js'
import { IBV_QP_ATTR, IBV_QPS_RESET } from '#dist/ffi/verbs/layout.js'
import { VerbsLibrary } from '#dist/ffi/verbs/library.js'
import { PollSet } from '#dist/ffi/wait.js'
import { type Backend, POST_AGAIN, POST_OK, type Posting, type PostResult, type ReapResult } from '#dist/src/backend/backend.js'
import { openIbverbs } from '#dist/src/backend/verbs/raw.js'
import { parseEndpoints, resolveEndpoints } from '#dist/src/net/endpoint.js'
import { resolveInterface } from '#dist/src/net/interface.js'
import { IBVERBS_DEFAULTS } from '#dist/src/stream/config.js'
import { environment, handTable, pattern } from '../support/hand-table.js'
import { inNamespace, needNic, nicHere, sleep } from '../support/nic.js'

let library: VerbsLibrary
const here = nicHere({ veth: {} }, { mode: 'null' }, ({ nic }) => {
  library = VerbsLibrary.load(nic.library)
})

beforeEach(needNic)

async function open(): Promise<Backend> {
  const { poll: _, pollMicroseconds: __, ...options } = IBVERBS_DEFAULTS
  const endpoints = await resolveEndpoints(parseEndpoints(['239.1.2.3:7148']))
  const more = { sourcePort: 0, packetSizeBytes: 1472, neighbourTimeoutMs: 100, pollNanoseconds: 0, verbsLibrary: here.nic.library }
  return inNamespace(here.ns.name.a, () =>
    openIbverbs({ ...options, ...more, endpoints, interface: resolveInterface('v0', 4) }, environment()),
  )
}

/** Makes the next `times` changes to RESET fail with EIO. */
function refuseResets(times: number): () => number {
  const call = library.call as { ibv_modify_qp: (...args: number[]) => number }
  const real = call.ibv_modify_qp
  let refused = 0
  call.ibv_modify_qp = (qp, attr, mask) => {
    const state = new DataView(koffi().view(BigInt(attr!), IBV_QP_ATTR.size) as ArrayBuffer).getUint32(IBV_QP_ATTR.qp_state, true)
    if (state !== IBV_QPS_RESET || refused >= times) return real(qp!, attr!, mask!)
    refused++
    return 5
  }
  return () => {
    call.ibv_modify_qp = real
    return refused
  }
}

const out: PostResult = { kind: POST_OK, accepted: 0, skipped: 0, errno: 0, substream: 0, waitFor: 'writable' }
const reaped: ReapResult = { completed: 0, failures: 0, failedAt: new Uint32Array(64), failedErrno: new Int32Array(64) }

async function reapAll(backend: Backend, rows: number): Promise<number> {
  let failures = 0
  for (let done = 0, tries = 0; done < rows; tries++) {
    expect(tries).toBeLessThan(2000)
    backend.reap(reaped)
    done += reaped.completed
    failures += reaped.failures
    if (reaped.completed === 0) await sleep(1)
  }
  return failures
}

/** Posts all rows, and waits for their completions as the I/O thread does: arm, sleep on the wait set, reap. */
async function sendAsleep(backend: Backend, posting: Posting, rows: number): Promise<{ failures: number; woken: number }> {
  await here.nic.command('stall')
  backend.post(posting, 0, rows, out)
  expect([out.kind, out.accepted]).toEqual([POST_OK, rows])
  expect(backend.arm!()).toBe(true)
  const poll = new PollSet(4)
  for (const { fd, events } of backend.waitSet(false)) poll.add(fd, events)
  expect(poll.wait(0)).toBe(0)
  await here.nic.command('resume')
  const woken = poll.wait(1e9)
  return { failures: await reapAll(backend, rows), woken }
}

test('a queue that cannot be reset is replaced, and completions of the new one wake', async () => {
  const before = readdirSync('/proc/self/fd').length
  const backend = await open()
  const { table } = handTable(
    Array.from({ length: 10 }, (_, i) => ({ substream: 0, segments: [pattern(i, 100)] })),
    backend.caps.headroomBytes,
  )
  const posting = backend.compile(table, { maxMessageBytes: 65507 })
  expect(await sendAsleep(backend, posting, 10)).toEqual({ failures: 0, woken: 1 })
  for (let n = 1; n <= 3; n++) {
    const restore = refuseResets(1)
    await here.nic.command('fail 4 GENERAL_ERR')
    backend.post(posting, 0, 10, out)
    expect(await reapAll(backend, 10)).toBe(7)
    expect(restore()).toBe(1)
    expect(backend.states.read().recoveries).toBe(n)
    expect(await sendAsleep(backend, posting, 10)).toEqual({ failures: 0, woken: 1 })
  }
  backend.release(posting)
  backend.close()
  expect(readdirSync('/proc/self/fd').length).toBeLessThanOrEqual(before + 2)
  // The first queue, and three that replaced it.
  expect(here.nic.cleanReport().made).toMatchObject({ qps: 4, cqs: 4, channels: 4 })
})

test('no other queue can be made either: broken for good, and closing gives back what there is', async () => {
  const backend = await open()
  const { table } = handTable(
    [0, 1, 2].map((i) => ({ substream: 0, segments: [pattern(i, 100)] })),
    backend.caps.headroomBytes,
  )
  const posting = backend.compile(table, { maxMessageBytes: 65507 })
  const restore = refuseResets(1)
  await here.nic.command('fail 2 GENERAL_ERR', 'create-qp 1 ENOMEM')
  backend.post(posting, 0, 3, out)
  expect(await reapAll(backend, 3)).toBe(2)
  restore()
  backend.post(posting, 0, 3, out)
  expect(out.kind).toBe(3)
  expect(backend.explain(out.errno, 0, 100)).toMatch(
    /gone or broken \(EIO\).*before: IBV_WC_GENERAL_ERR, ibv_create_qp failed: ENOMEM/,
  )
  expect(backend.waitSet(false)).toEqual([])
  expect(backend.arm!()).toBe(true)
  expect(out.kind).not.toBe(POST_AGAIN)
  backend.close()
  here.nic.cleanReport()
})
