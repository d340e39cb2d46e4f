// HEALTHCHECK of the image: healthy while a speadcast holds what it sends or receives by, a UDP socket or an RDMA device, and is not
// stopped. A receiver counts from when it listens, so `depends_on: { condition: service_healthy }` starts senders in time.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

const orElse = (f, otherwise) => {
  try {
    return f()
  } catch {
    return otherwise
  }
}
const udp = new Set()
for (const table of ['udp', 'udp6'])
  for (const line of orElse(() => readFileSync(`/proc/net/${table}`, 'utf8'), '')
    .split('\n')
    .slice(1))
    udp.add(line.trim().split(/\s+/)[9])

function sendsOrReceives(pid) {
  if (!orElse(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8'), '').includes('/lib/cli.js')) return false
  const stat = orElse(() => readFileSync(`/proc/${pid}/stat`, 'utf8'), '')
  if (/^[TtZX]/.test(stat.slice(stat.lastIndexOf(')') + 2))) return false
  return orElse(() => readdirSync(`/proc/${pid}/fd`), []).some((fd) => {
    const target = orElse(() => readlinkSync(`/proc/${pid}/fd/${fd}`), '')
    return udp.has(/^socket:\[(\d+)\]$/.exec(target)?.[1]) || target.startsWith('/dev/infiniband/')
  })
}

const healthy = readdirSync('/proc').some((name) => /^\d+$/.test(name) && sendsOrReceives(name))
console.log(healthy ? 'a speadcast holds its sockets' : 'no speadcast has a socket or an RDMA device open')
process.exitCode = healthy ? 0 : 1
