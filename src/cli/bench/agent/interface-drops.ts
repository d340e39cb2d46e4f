import { readFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'

/** Counters of packets that an interface could not hand on (Documentation/ABI/testing/sysfs-class-net-statistics). */
const COUNTERS = ['rx_dropped', 'rx_missed_errors', 'rx_fifo_errors', 'rx_over_errors']

/** Returns what the interface with this address dropped so far; 0 where nobody tells. */
export function interfaceDrops(address: string): number {
  const bare = address.replace(/%.*$/, '')
  const found = Object.entries(networkInterfaces()).find(([, own]) => own?.some((each) => each.address === bare))
  return found === undefined ? 0 : COUNTERS.reduce((sum, counter) => sum + read(found[0], counter), 0)
}

function read(name: string, counter: string): number {
  try {
    return Number(readFileSync(`/sys/class/net/${name}/statistics/${counter}`, 'utf8')) || 0
  } catch {
    return 0
  }
}
