/**
 * Whether an RDMA device gives multicast of this host to receivers of this host. mlx5 does as soon as two contexts have the device open
 * (mlx5_ib_enable_lb of the driver), be it for two streams or for two programs, by a path in the NIC that is slower
 * than the wire. No flag of a raw packet queue pair prevents it: IBV_QP_CREATE_BLOCK_SELF_MCAST_LB is for datagrams. The driver of
 * MLNX_OFED has a switch. Linux only, cold.
 */
import { readFileSync } from 'node:fs'

const fileOf = (name: string) => `/sys/class/net/${name}/settings/force_local_lb_disable`

/** @property file the switch; undefined where the driver has none. */
export interface MulticastLoopback {
  readonly off: boolean
  readonly file?: string
}

/** @param interfaces names of the interface that sends, and of those below it. */
export function multicastLoopback(interfaces: readonly string[]): MulticastLoopback {
  for (const file of interfaces.map(fileOf)) {
    try {
      // "Force local loopback disable is ON", or OFF
      return { off: /\b(on|1)\s*$/i.test(readFileSync(file, 'utf8')), file }
    } catch {
      // not a port of the NIC, or not this driver
    }
  }
  return { off: false }
}

/** Says what that means to a sender of multicast. */
export function describeLoopback({ off, file }: MulticastLoopback): string {
  if (off) return `multicast is not looped back to this host (${file})`
  const remedy = file ? `\`echo 1 > ${file}\` turns that off` : 'this driver has no switch to turn that off, that of MLNX_OFED has'
  return `the device may loop multicast back to receivers of this host, which limits the rate (mlx5: while the device is open more than once); ${remedy}`
}

/** Why `multicastLoop: false` cannot be kept; undefined where it is. */
export function loopbackRefused(interfaces: readonly string[]): string | undefined {
  const loopback = multicastLoopback(interfaces)
  return loopback.off ? undefined : `multicastLoop is false, and ${describeLoopback(loopback)}; or leave multicastLoop out`
}
