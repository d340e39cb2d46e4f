/** The NUMA node that a receiver's memory lies on: that of the NIC its packets come in by, where the machine has several nodes. */
import { equal, localInterfaces } from '../net/interface.js'
import { type NumaPlace, placeNear } from '../net/numa.js'
import { pathTo } from '../net/route.js'
import type { DriverOptions, ReceiveEndpoint } from './receive-driver.js'

type Placed = Pick<DriverOptions, 'endpoints' | 'interface' | 'device'>

/** @param sysfs where /sys is */
export function receiverPlace({ endpoints, interface: chosen, device }: Placed, sysfs?: string): NumaPlace {
  return placeNear(device, () => (chosen ? [chosen.name] : comeInBy(endpoints)), sysfs)
}

/** None where packets to any of the endpoints come in by any. */
function comeInBy(endpoints: readonly ReceiveEndpoint[]): string[] {
  const each = endpoints.map(comesInBy)
  return each.some((names) => names.length === 0) ? [] : [...new Set(each.flat())]
}

/** The interface that has the address, or that the group is joined on; none where packets come in by any. */
function comesInBy(endpoint: ReceiveEndpoint): string[] {
  const { multicast, joinedOn, bytes } = endpoint
  try {
    if (multicast) return [joinedOn ?? pathTo(endpoint).interfaceName]
    return localInterfaces().flatMap(({ name, addresses }) => (addresses.some((own) => equal(own.bytes, bytes)) ? [name] : []))
  } catch {
    // No route, or nobody tells the interfaces.
    return []
  }
}
