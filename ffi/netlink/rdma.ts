/** Asks the kernel about RDMA devices by its RDMA netlink (rdma/rdma_netlink.h, Linux 4.17). Linux only, cold. */
import { query, textOf, u32, u32Of } from './query.js'

const NETLINK_RDMA = 20
/** RDMA_NL_GET_TYPE(RDMA_NL_NLDEV, command). */
const RDMA_NL_NLDEV = 5 << 10
const CMD_GET = 1
const CMD_PORT_GET = 5
const ATTR = { devIndex: 1, devName: 2, portIndex: 3, ndevIndex: 50 } as const
const HEADER = new Uint8Array(0)

/**
 * Index of the network interface of each port of a device that has one here, by the port's number. @throws NativeError:
 * EPROTONOSUPPORT where the kernel has no RDMA
 */
export function portInterfaces(device: string): ReadonlyMap<number, number> {
  let index: number | undefined
  const ask = { protocol: NETLINK_RDMA, dump: true, header: HEADER } as const
  query({
    ...ask,
    what: 'RDMA_NLDEV_CMD_GET',
    type: RDMA_NL_NLDEV | CMD_GET,
    answer: RDMA_NL_NLDEV | CMD_GET,
    onMessage: (view, _, found) => {
      if (textOf(found, ATTR.devName) === device) index = u32Of(view, found, ATTR.devIndex)
    },
  })
  const interfaces = new Map<number, number>()
  if (index === undefined) return interfaces
  query({
    ...ask,
    what: 'RDMA_NLDEV_CMD_PORT_GET',
    type: RDMA_NL_NLDEV | CMD_PORT_GET,
    answer: RDMA_NL_NLDEV | CMD_PORT_GET,
    attributes: [[ATTR.devIndex, u32(index)]],
    onMessage: (view, _, found) => {
      const port = u32Of(view, found, ATTR.portIndex)
      const ndev = u32Of(view, found, ATTR.ndevIndex)
      if (port !== undefined && ndev) interfaces.set(port, ndev)
    },
  })
  return interfaces
}
