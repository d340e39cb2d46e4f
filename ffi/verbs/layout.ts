/**
 * Layouts and constants of infiniband/verbs.h and rdma/rdma_cma.h, as far as we use them, under their C names. They are LP64 and
 * the same on x86-64 and arm64, but for fields behind a pthread_mutex_t. The only such field that we use is abi_compat. Fields have only been
 * appended since 2017. test/ffi/verbs-layout.test.ts compares all with the installed headers, and with those for arm64.
 */
import { onMusl } from './musl.js'

/** Bytes of a pthread_mutex_t: 48 in glibc for arm64 (bits/pthreadtypes-arch.h), 40 in that for x86-64 and in musl for both. */
const MUTEX_BYTES = process.arch === 'arm64' && !onMusl() ? 48 : 40

export const IBV_CONTEXT = {
  'ops.poll_cq': 96,
  'ops.req_notify_cq': 104,
  'ops.post_send': 208,
  'ops.post_recv': 216,
  async_fd: 268,
  num_comp_vectors: 272,
  abi_compat: 280 + MUTEX_BYTES,
  size: 288 + MUTEX_BYTES,
} as const

/** Distances of verbs_context's members before the ibv_context at its end: the struct grows at its start, so these never change. */
export const VERBS_CONTEXT = { sz: -8, create_qp_ex: -56, query_device_ex: -104, modify_qp_rate_limit: -216 } as const

export const IBV_SEND_WR = {
  wr_id: 0,
  next: 8,
  sg_list: 16,
  num_sge: 24,
  opcode: 28,
  send_flags: 32,
  'wr.ud.ah': 40,
  'wr.ud.remote_qpn': 48,
  'wr.ud.remote_qkey': 52,
  size: 128,
} as const
export const IBV_RECV_WR = { wr_id: 0, next: 8, sg_list: 16, num_sge: 24, size: 32 } as const
export const IBV_SGE = { addr: 0, length: 8, lkey: 12, size: 16 } as const
export const IBV_WC = { wr_id: 0, status: 8, vendor_err: 16, byte_len: 20, src_qp: 32, slid: 42, size: 48 } as const

export const IBV_QP_INIT_ATTR = {
  send_cq: 8,
  recv_cq: 16,
  'cap.max_send_wr': 32,
  'cap.max_recv_wr': 36,
  'cap.max_send_sge': 40,
  'cap.max_recv_sge': 44,
  'cap.max_inline_data': 48,
  qp_type: 52,
  sq_sig_all: 56,
  size: 64,
} as const
export const IBV_QP_ATTR = { qp_state: 0, qkey: 16, sq_psn: 24, pkey_index: 120, port_num: 129, size: 144 } as const
export const IBV_QP_RATE_LIMIT_ATTR = { rate_limit: 0, max_burst_sz: 4, typical_pkt_sz: 8, comp_mask: 12, size: 16 } as const

export const IBV_DEVICE_ATTR_EX = {
  'orig_attr.fw_ver': 0,
  'orig_attr.vendor_id': 96,
  'orig_attr.vendor_part_id': 100,
  'orig_attr.max_qp_wr': 112,
  'orig_attr.device_cap_flags': 116,
  'orig_attr.max_sge': 120,
  'orig_attr.max_cqe': 132,
  'orig_attr.phys_port_cnt': 227,
  'packet_pacing_caps.qp_rate_limit_min': 332,
  'packet_pacing_caps.qp_rate_limit_max': 336,
  'packet_pacing_caps.supported_qpts': 340,
  raw_packet_caps: 344,
  size: 400,
} as const
export const IBV_PORT_ATTR = {
  state: 0,
  max_mtu: 4,
  active_mtu: 8,
  lid: 34,
  active_width: 43,
  active_speed: 44,
  link_layer: 46,
  size: 52,
} as const
export const IBV_GID_ENTRY = { gid: 0, gid_index: 16, port_num: 20, gid_type: 24, ndev_ifindex: 28, size: 32 } as const

export const IBV_AH_ATTR = {
  'grh.dgid': 0,
  'grh.flow_label': 16,
  'grh.sgid_index': 20,
  'grh.hop_limit': 21,
  'grh.traffic_class': 22,
  dlid: 24,
  sl: 26,
  is_global: 29,
  port_num: 30,
  size: 32,
} as const
/** The room in front of every datagram that is received, filled in or not (ibv_post_recv(3)). */
export const IBV_GRH = { sgid: 8, dgid: 24, size: 40 } as const

export const IBV_MR = { lkey: 36 } as const
export const IBV_COMP_CHANNEL = { fd: 8 } as const
export const IBV_QP = { qp_num: 52 } as const
export const IBV_ASYNC_EVENT = { element: 0, event_type: 8, size: 16 } as const
export const RDMA_EVENT_CHANNEL = { fd: 0 } as const
export const RDMA_CM_EVENT = {
  event: 16,
  status: 20,
  'param.ud.ah_attr': 40,
  'param.ud.qp_num': 72,
  'param.ud.qkey': 76,
  size: 80,
} as const
export const RDMA_CM_ID = { verbs: 0, port_num: 348 } as const

export const IBV_QPT_UD = 4
export const IBV_QPT_RAW_PACKET = 8
export const IBV_WR_SEND = 2
export const IBV_SEND_SIGNALED = 2
export const IBV_SEND_IP_CSUM = 16
export const IBV_QPS_RESET = 0
export const IBV_QPS_INIT = 1
export const IBV_QPS_RTR = 2
export const IBV_QPS_RTS = 3
export const IBV_QPS_ERR = 6
export const IBV_QP_STATE = 1
export const IBV_QP_PKEY_INDEX = 1 << 4
export const IBV_QP_PORT = 1 << 5
export const IBV_QP_QKEY = 1 << 6
export const IBV_QP_SQ_PSN = 1 << 16
export const IBV_ACCESS_LOCAL_WRITE = 1
export const IBV_ACCESS_RELAXED_ORDERING = 1 << 20
export const IBV_PORT_ACTIVE = 4
export const IBV_LINK_LAYER_ETHERNET = 2
export const IBV_DEVICE_RAW_IP_CSUM = 1 << 26
export const IBV_RAW_PACKET_CAP_IP_CSUM = 1 << 2
export const IBV_WC_WR_FLUSH_ERR = 5
export const RDMA_PS_UDP = 0x111
export const RDMA_UDP_QKEY = 0x01234567
export const RDMA_CM_EVENT_MULTICAST_JOIN = 12

/** enum ibv_wc_status, in order from 0. */
export const WC_STATUS = [
  'IBV_WC_SUCCESS',
  'IBV_WC_LOC_LEN_ERR',
  'IBV_WC_LOC_QP_OP_ERR',
  'IBV_WC_LOC_EEC_OP_ERR',
  'IBV_WC_LOC_PROT_ERR',
  'IBV_WC_WR_FLUSH_ERR',
  'IBV_WC_MW_BIND_ERR',
  'IBV_WC_BAD_RESP_ERR',
  'IBV_WC_LOC_ACCESS_ERR',
  'IBV_WC_REM_INV_REQ_ERR',
  'IBV_WC_REM_ACCESS_ERR',
  'IBV_WC_REM_OP_ERR',
  'IBV_WC_RETRY_EXC_ERR',
  'IBV_WC_RNR_RETRY_EXC_ERR',
  'IBV_WC_LOC_RDD_VIOL_ERR',
  'IBV_WC_REM_INV_RD_REQ_ERR',
  'IBV_WC_REM_ABORT_ERR',
  'IBV_WC_INV_EECN_ERR',
  'IBV_WC_INV_EEC_STATE_ERR',
  'IBV_WC_FATAL_ERR',
  'IBV_WC_RESP_TIMEOUT_ERR',
  'IBV_WC_GENERAL_ERR',
] as const

/** enum ibv_event_type, in order from 0. */
export const EVENT_TYPE = [
  'IBV_EVENT_CQ_ERR',
  'IBV_EVENT_QP_FATAL',
  'IBV_EVENT_QP_REQ_ERR',
  'IBV_EVENT_QP_ACCESS_ERR',
  'IBV_EVENT_COMM_EST',
  'IBV_EVENT_SQ_DRAINED',
  'IBV_EVENT_PATH_MIG',
  'IBV_EVENT_PATH_MIG_ERR',
  'IBV_EVENT_DEVICE_FATAL',
  'IBV_EVENT_PORT_ACTIVE',
  'IBV_EVENT_PORT_ERR',
  'IBV_EVENT_LID_CHANGE',
  'IBV_EVENT_PKEY_CHANGE',
  'IBV_EVENT_SM_CHANGE',
  'IBV_EVENT_SRQ_ERR',
  'IBV_EVENT_SRQ_LIMIT_REACHED',
  'IBV_EVENT_QP_LAST_WQE_REACHED',
  'IBV_EVENT_CLIENT_REREGISTER',
  'IBV_EVENT_GID_CHANGE',
  'IBV_EVENT_WQ_FATAL',
] as const
