/**
 * A queue pair for datagrams, made by hand from the layouts and bindings in ffi/: if it works on a real device, they are right.
 */

import { Scratch } from '#dist/ffi/memory/scratch.js'
import { readI32, readU32 } from '#dist/ffi/memory/store-pointer.js'
import { type ProtectionDomain, setNonBlocking, type VerbsContext } from '#dist/ffi/verbs/context.js'
import * as L from '#dist/ffi/verbs/layout.js'
import type { ContextOperations, VerbsLibrary } from '#dist/ffi/verbs/library.js'

/** Bytes in front of a message, by ibv_post_recv(3) and not by our layouts. */
export const GRH_BYTES = 40

const QKEY = 0x11223344

export interface Completion {
  readonly id: number
  readonly status: number
}

export class UdQueue {
  readonly channel: number
  readonly channelFd: number
  readonly cq: number
  readonly qp: number
  readonly number: number
  readonly operations: ContextOperations
  readonly #library: VerbsLibrary
  readonly #scratch = new Scratch(4096)

  constructor(context: VerbsContext, domain: ProtectionDomain, { depth = 16, psn = 0x123456 } = {}) {
    const library = context.library
    this.#library = library
    this.operations = library.operations(context.pointer)
    this.channel = library.pointer('ibv_create_comp_channel', context.pointer)
    this.channelFd = readI32(this.channel + L.IBV_COMP_CHANNEL.fd)
    setNonBlocking(this.channelFd)
    this.cq = library.pointer('ibv_create_cq', context.pointer, 2 * depth, 0, this.channel, 0)
    const { view, u8, address } = this.#scratch
    const Q = L.IBV_QP_INIT_ATTR
    view.setBigUint64(Q.send_cq, BigInt(this.cq), true)
    view.setBigUint64(Q.recv_cq, BigInt(this.cq), true)
    for (const field of ['cap.max_send_wr', 'cap.max_recv_wr'] as const) view.setUint32(Q[field], depth, true)
    view.setUint32(Q['cap.max_send_sge'], 2, true)
    view.setUint32(Q['cap.max_recv_sge'], 1, true)
    view.setUint32(Q.qp_type, L.IBV_QPT_UD, true)
    this.qp = library.pointer('ibv_create_qp', domain.pointer, address)
    this.number = readU32(this.qp + L.IBV_QP.qp_num)
    const modify = (state: number, mask: number) => {
      u8.fill(0, 0, L.IBV_QP_ATTR.size)
      view.setUint32(L.IBV_QP_ATTR.qp_state, state, true)
      view.setUint32(L.IBV_QP_ATTR.qkey, QKEY, true)
      view.setUint32(L.IBV_QP_ATTR.sq_psn, psn, true)
      view.setUint8(L.IBV_QP_ATTR.port_num, 1)
      library.done('ibv_modify_qp', `${state}`, this.qp, address, L.IBV_QP_STATE | mask)
    }
    modify(L.IBV_QPS_INIT, L.IBV_QP_PORT | L.IBV_QP_PKEY_INDEX | L.IBV_QP_QKEY)
    modify(L.IBV_QPS_RTR, 0)
    modify(L.IBV_QPS_RTS, L.IBV_QP_SQ_PSN)
  }

  receive(id: number, at: number, byteLength: number, lkey: number): void {
    const { view, u8, address } = this.#scratch
    u8.fill(0, 0, 64)
    const R = L.IBV_RECV_WR
    view.setBigUint64(R.wr_id, BigInt(id), true)
    view.setBigUint64(R.sg_list, BigInt(address + R.size), true)
    view.setUint32(R.num_sge, 1, true)
    this.#sge(R.size, at, byteLength, lkey)
    const result = this.operations.postReceive(this.qp, address, address + 64)
    if (result !== 0) throw new Error(`post_recv: ${result}`)
  }

  #sge(offset: number, at: number, byteLength: number, lkey: number): void {
    const { view } = this.#scratch
    view.setBigUint64(offset + L.IBV_SGE.addr, BigInt(at), true)
    view.setUint32(offset + L.IBV_SGE.length, byteLength, true)
    view.setUint32(offset + L.IBV_SGE.lkey, lkey, true)
  }

  /** A chain of one message for each id, of two segments each, only the last of them signalled. */
  send(
    ids: readonly number[],
    segments: readonly { at: number; byteLength: number; lkey: number }[],
    ah: number,
    number: number,
  ): void {
    const { view, u8, address } = this.#scratch
    const W = L.IBV_SEND_WR
    u8.fill(0, 0, 2048)
    const sgeAt = 2048
    for (const [i, id] of ids.entries()) {
      const wr = i * W.size
      const last = i === ids.length - 1
      view.setBigUint64(wr + W.wr_id, BigInt(id), true)
      view.setBigUint64(wr + W.next, BigInt(last ? 0 : address + wr + W.size), true)
      view.setBigUint64(wr + W.sg_list, BigInt(address + sgeAt), true)
      view.setUint32(wr + W.num_sge, segments.length, true)
      view.setUint32(wr + W.opcode, L.IBV_WR_SEND, true)
      view.setUint32(wr + W.send_flags, last ? L.IBV_SEND_SIGNALED : 0, true)
      view.setBigUint64(wr + W['wr.ud.ah'], BigInt(ah), true)
      view.setUint32(wr + W['wr.ud.remote_qpn'], number, true)
      view.setUint32(wr + W['wr.ud.remote_qkey'], QKEY, true)
    }
    for (const [i, { at, byteLength, lkey }] of segments.entries()) this.#sge(sgeAt + i * L.IBV_SGE.size, at, byteLength, lkey)
    const result = this.operations.postSend(this.qp, address, address + 4088)
    if (result !== 0) throw new Error(`post_send: ${result}`)
  }

  poll(): Completion[] {
    const { view, address } = this.#scratch
    const n = this.operations.pollCq(this.cq, 16, address)
    if (n < 0) throw new Error(`poll_cq: ${n}`)
    return Array.from({ length: n }, (_, i) => ({
      id: Number(view.getBigUint64(i * L.IBV_WC.size + L.IBV_WC.wr_id, true)),
      status: view.getUint32(i * L.IBV_WC.size + L.IBV_WC.status, true),
    }))
  }

  arm(): number {
    return this.operations.reqNotifyCq(this.cq, 0)
  }

  /** How many events the channel had; acknowledged. Each must be of this queue. */
  takeEvents(): number {
    const { view, address } = this.#scratch
    const { call } = this.#library
    let n = 0
    for (; call.ibv_get_cq_event(this.channel, address, address + 8) === 0; n++)
      if (Number(view.getBigUint64(0, true)) !== this.cq) throw new Error('an event of another queue')
    if (n > 0) call.ibv_ack_cq_events(this.cq, n)
    return n
  }

  close(): void {
    const { call } = this.#library
    call.ibv_destroy_qp(this.qp)
    this.takeEvents()
    call.ibv_destroy_cq(this.cq)
    call.ibv_destroy_comp_channel(this.channel)
    this.#scratch.region.release()
  }
}
