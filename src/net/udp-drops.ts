import { readFileSync } from 'node:fs'

/**
 * Counts the UDP packets of one family that a queue below any socket here ever refused (proc_pid_net(5), SndbufErrors), also
 * those of a socket without IP_RECVERR. Undefined where no kernel tells.
 */
export function dropsBelowSockets(v6: boolean): number | undefined {
  try {
    if (v6) return Number(/^Udp6SndbufErrors\s+(\d+)/m.exec(readFileSync('/proc/net/snmp6', 'latin1'))?.[1] ?? 0)
    const [names, values] = readFileSync('/proc/net/snmp', 'latin1')
      .split('\n')
      .filter((line) => line.startsWith('Udp: '))
      .map((line) => line.split(' '))
    return Number(values?.[names!.indexOf('SndbufErrors')] ?? 0)
  } catch {
    return undefined
  }
}
