/** Asks the kernel of its network namespace by netlink: QUESTION ARGUMENTS…. Prints the answer. */
import { execFileSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { POLLIN } from '#dist/ffi/layout.js'
import type { NativeError } from '#dist/ffi/native-error.js'
import { LinkLosses } from '#dist/ffi/netlink/link-losses.js'
import { LinkWatch } from '#dist/ffi/netlink/link-watch.js'
import { type Qdisc, qdiscs } from '#dist/ffi/netlink/qdisc.js'
import * as nl from '#dist/ffi/netlink/route.js'
import { PollSet } from '#dist/ffi/wait.js'
import { print } from '../support/print.js'

const ip = (...args: string[]) => execFileSync('ip', args, { encoding: 'utf8' })
const bytes = (...values: number[]) => Uint8Array.from(values)
const index = (name: string) => nl.links().find((link) => link.name === name)!.index

/** Datagrams to the discard port. */
async function poke(host: string, { waitMs = 100, bytes = 1, times = 1 } = {}): Promise<void> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
  for (let i = 0; i < times; i++) await new Promise((done) => socket.send(Buffer.alloc(bytes), 9, host, done))
  socket.close()
  await sleep(waitMs)
}

function errno(ask: () => unknown): unknown {
  try {
    return ask()
  } catch (error) {
    const { name, errnoName } = error as NativeError
    return `${name} ${errnoName}`
  }
}

async function links(host: string) {
  await poke(host)
  return nl.links()
}

const oneLink = () => [errno(() => nl.link(9999)), errno(() => nl.link(0)), nl.link(index('v0')).name]

async function txDropped(host: string) {
  const dropped = () => nl.link(index('v0')).txDropped
  const before = dropped()
  await poke(host, { waitMs: 50, bytes: 1000, times: 25 })
  const first = dropped()
  const theirs = JSON.parse(ip('-s', '-json', 'link', 'show', 'v0'))[0].stats64.tx.dropped as number
  return [before, first, theirs, dropped()]
}

function routes() {
  const v0 = index('v0')
  const v6 = (second: number, last: number) => bytes(0xfd, second, ...Array(13).fill(0), last)
  return {
    v0,
    link: nl.routeTo(4, bytes(10, 77, 0, 2)),
    gateway: nl.routeTo(4, bytes(10, 200, 1, 1)),
    via6: nl.routeTo(4, bytes(10, 201, 1, 1)),
    local: nl.routeTo(4, bytes(10, 77, 0, 1)),
    multicast: nl.routeTo(4, bytes(239, 1, 2, 3), { oif: v0 }),
    withSource: nl.routeTo(4, bytes(10, 77, 0, 2), { source: bytes(10, 77, 0, 1) }),
    foreignSource: errno(() => nl.routeTo(4, bytes(10, 77, 0, 2), { source: bytes(10, 99, 99, 99) })),
    none: errno(() => nl.routeTo(4, bytes(8, 8, 8, 8))),
    unreachable: errno(() => nl.routeTo(4, bytes(10, 202, 0, 1))),
    prohibit: errno(() => nl.routeTo(4, bytes(10, 203, 0, 1))),
    blackhole: errno(() => nl.routeTo(4, bytes(10, 204, 0, 1))),
    link6: nl.routeTo(6, v6(0x77, 2)),
    gateway6: nl.routeTo(6, v6(0x78, 9)),
    none6: errno(() => nl.routeTo(6, v6(0x80, 1))),
    unreachable6: errno(() => nl.routeTo(6, v6(0x79, 1)).type),
  }
}

const unasked = () => nl.neighbour(4, index('v0'), bytes(10, 77, 0, 2)).state

async function neighbours(host4: string, host6: string) {
  const v0 = index('v0')
  await poke(host4)
  await poke(host6)
  return {
    v4: nl.neighbour(4, v0, bytes(10, 77, 0, 2)),
    v6: nl.neighbour(6, v0, bytes(0xfd, 0x77, ...Array(13).fill(0), 2)),
    permanent: nl.neighbour(4, v0, bytes(10, 77, 0, 9)),
    failed: nl.neighbour(4, v0, bytes(10, 77, 0, 10)),
    badInterface: errno(() => nl.neighbour(4, 9999, bytes(10, 77, 0, 2))),
  }
}

async function linkLosses(host: string) {
  await poke(host, { bytes: 1000, times: 60 })
  const losses = new LinkLosses()
  function read(ifindex: number) {
    losses.read(ifindex)
    const { running, carrierDownCount, txDropped, queueDrops } = losses
    return { running, carrierDownCount, txDropped, queueDrops }
  }
  const none = errno(() => read(9999))
  const lo = read(index('lo'))
  const v0 = read(index('v0'))
  losses.close()
  losses.close()
  return [v0, { ...lo, none }, nl.link(index('v0'))]
}

async function queueing(host: string) {
  const tc = (...args: string[]) => execFileSync('tc', ['qdisc', ...args])
  const hex = (n: number) => `${(n >>> 16).toString(16)}:${(n & 0xffff || '').toString(16)}`
  const told = ({ kind, handle, parent }: Qdisc) => ({
    kind,
    handle: hex(handle),
    ...(parent === 0xffffffff ? { root: true } : { parent: hex(parent) }),
  })
  const ours = Object.fromEntries(['lo', 'v0', 'x59'].map((name) => [name, qdiscs(index(name)).map(told)]))
  const losses = new LinkLosses()
  function read() {
    losses.read(index('v0'))
    return losses.queueing
  }
  const queueing = [read()]
  await poke(host)
  queueing.push(read())
  tc('replace', 'dev', 'v0', 'parent', '1:1', 'handle', '11:', 'pfifo')
  queueing.push(read())
  tc('del', 'dev', 'v0', 'root')
  queueing.push(read())
  tc('replace', 'dev', 'lo', 'root', 'pfifo')
  queueing.push(read())
  losses.close()
  return { ours, queueing, none: qdiscs(9999) }
}

async function linkWatch(peerNamespace: string) {
  const v0 = index('v0')
  const ifb = index('ifb9')
  const watch = new LinkWatch([v0, ifb])
  type Changes = ReturnType<LinkWatch['drain']>
  async function until(isSo: (changes: Changes) => boolean): Promise<Partial<Changes>> {
    for (let i = 0; i < 300; i++) {
      const changes = { ...watch.drain(v0) }
      if (isSo(changes)) return changes
      await sleep(10)
    }
    return {}
  }
  const carrierLost = async () => (await until((changes) => changes.carrierLost)).carrierLost
  const changed = async () => (await until(({ changes }) => changes > 0)).changes !== undefined
  const peer = (state: string) => ip('-n', peerNamespace, 'link', 'set', 'v1', state)
  const r: Record<string, unknown> = {}
  r.quiet = { ...watch.drain(v0) }
  ip('link', 'set', 'v0', 'mtu', '1400')
  r.mtu = await until(({ changes }) => changes > 0)
  ip('neigh', 'add', '10.77.0.9', 'lladdr', '02:00:00:00:00:09', 'dev', 'v0')
  r.neighbourKnown = watch.drain(v0).neighbourLost
  ip('neigh', 'del', '10.77.0.9', 'dev', 'v0')
  r.neighbourLost = (await until((changes) => changes.neighbourLost)).neighbourLost
  const lossesBefore = nl.link(v0).carrierDownCount
  peer('down')
  r.lossCountedAtOnce = nl.link(v0).carrierDownCount - lossesBefore
  r.peerDown = await carrierLost()
  peer('up')
  r.back = (await until(({ changes }) => changes > 0 && nl.link(v0).carrier)).changes !== undefined
  await sleep(1100)
  watch.drain(v0)
  ip('link', 'set', 'v0', 'down')
  r.ownDown = await carrierLost()
  r.drained = { ...watch.drain(v0) }
  ip('link', 'set', 'v0', 'up')
  r.up = await changed()
  // The kernel may make one message of a flap that is short enough.
  await sleep(1100)
  watch.drain(v0)
  peer('down')
  peer('up')
  r.flap = await carrierLost()
  await sleep(1100)
  watch.drain(v0)
  r.other = { ...watch.drain(ifb) }
  ip('link', 'set', 'ifb9', 'down')
  watch.drain(v0)
  r.otherKept = watch.drain(ifb).carrierLost
  ip('link', 'del', 'v0')
  r.removed = await carrierLost()
  watch.close()
  watch.close()
  r.closed = { ...watch.drain(v0) }
  r.noInterface = errno(() => new LinkWatch([9999]))
  return r
}

function overrun() {
  const v0 = index('v0')
  const descriptors = () => readdirSync('/proc/self/fd').length
  const before = descriptors()
  for (let i = 0; i < 20; i++) new LinkWatch([v0]).close()
  for (let i = 0; i < 20; i++) errno(() => nl.link(9999))
  const leaked = descriptors() - before
  const watch = new LinkWatch([v0])
  const batch = join(tmpdir(), `spc-batch-${process.pid}`)
  process.on('exit', () => rmSync(batch, { force: true }))
  // 600 messages of about 1.4 KiB, more than the socket's buffer of 208 KiB takes.
  writeFileSync(batch, Array.from({ length: 600 }, (_, i) => `link set ifb9 alias n${i}\n`).join(''))
  ip('-batch', batch)
  const overrun = { ...watch.drain(v0) }
  const after = { ...watch.drain(v0) }
  watch.close()
  return { leaked, overrun, after }
}

const COMMANDS = [
  [4, 'route add 10.99.0.0/16 via 10.77.0.2'],
  [4, 'route del 10.99.0.0/16'],
  [4, 'route add 10.99.7.128/25 via 10.77.0.2'],
  [4, 'route add 10.99.8.0/24 via 10.77.0.2'],
  [4, 'route add 192.168.0.0/16 via 10.77.0.2'],
  [4, 'route add default via 10.77.0.2'],
  [4, 'route add default via 10.77.0.2 table 77 metric 9'],
  [4, 'rule add to 10.99.0.0/16 table 77'],
  [4, 'neigh add 10.77.0.99 lladdr 02:00:00:00:00:09 dev v0'],
  [4, 'neigh del 10.77.0.99 dev v0'],
  [4, 'address add 10.88.0.2/24 dev ifb9'],
  [4, 'address add fd88::2/64 dev ifb9 nodad'],
  [4, 'nexthop add id 7 via 10.77.0.2 dev v0'],
  [4, 'link add x0 type ifb'],
  [4, 'link del x0'],
  [6, 'route add fd77::/120 via fd88::9'],
  [6, 'route add fd99:1::/32 via fd88::9'],
  [6, 'route add 2000::/3 via fd88::9'],
  [6, 'route add default via fd88::9'],
  [6, 'address add 10.88.0.3/24 dev ifb9'],
  [6, '-6 rule add to fd77::/16 table 77'],
] as const

/** For each command: whether it made the watch of destinations of that family readable, and its paths doubtful. */
function pathWatch() {
  const v0 = index('v0')
  const watches = {
    4: new LinkWatch([v0], [bytes(10, 99, 7, 1), bytes(10, 99, 7, 200)]),
    6: new LinkWatch([], [bytes(0xfd, 0x77, ...Array(13).fill(0), 2)]),
  }
  const none = new LinkWatch([v0])
  const poll = new PollSet(1)
  const told = (watch: LinkWatch) => {
    poll.reset()
    poll.add(watch.fd, POLLIN)
    poll.wait(0)
    const readable = poll.revents(0) !== 0
    watch.drain(v0)
    const { pathsDoubtful } = watch
    watch.pathsDoubtful = false
    return [readable, pathsDoubtful] as const
  }
  for (const watch of [watches[4], watches[6], none]) told(watch)
  const rows = COMMANDS.map(([family, command]) => {
    ip(...command.split(' '))
    return [`${family}: ${command}`, ...told(watches[family])]
  })
  told(none)
  ip('route', 'add', '10.99.0.0/17', 'via', '10.77.0.2')
  return [...rows, ['without destinations', ...told(none)]]
}

const OTHER_LINKS = [
  // As containers do.
  'link add foo type veth peer name bar',
  'link set foo up',
  'link set bar up',
  'address add 10.88.7.1/24 dev foo',
  'link set foo mtu 1400',
  'link set foo alias somebody',
  'link set foo down',
  'link set foo up',
  'link del foo',
  // One that leads to none of the destinations, one that is made anew, and the stream's own.
  'link set ifb9 down',
  'link set ifb9 up',
  'link set v0 mtu 1400',
  'link set v0 alias ours',
  // A leg, and legs that come and go in silence.
  'route add 10.99.0.0/16 nexthop via 10.77.0.2 dev v0 nexthop via 10.88.0.9 dev ifb9',
  'link set ifb9 mtu 1400',
  'link set ifb9 down',
  'link set ifb9 up',
  'link del ifb9',
  'link del v0',
  'link add v0 type ifb',
  'link set v0 up',
] as const

/** For each command: whether it made the paths to two thousand destinations doubtful. */
function otherLinks() {
  const v0 = index('v0')
  const watches = [
    new LinkWatch(
      [v0],
      Array.from({ length: 2000 }, (_, i) => bytes(10, 99, i >> 8, i & 255)),
    ),
    new LinkWatch(
      [v0],
      Array.from({ length: 2000 }, (_, i) => bytes(0xfd, 0x99, ...Array(12).fill(0), i >> 8, i & 255)),
    ),
  ]
  const told = () =>
    watches.map((watch) => {
      watch.drain(v0)
      const { pathsDoubtful } = watch
      watch.pathsDoubtful = false
      return pathsDoubtful
    })
  told()
  return OTHER_LINKS.map((command) => {
    ip(...command.split(' '))
    return [command, ...told()]
  })
}

const QUESTIONS = {
  links,
  oneLink,
  txDropped,
  addresses: () => nl.addresses(),
  routes,
  unasked,
  neighbours,
  linkLosses,
  queueing,
  linkWatch,
  overrun,
  pathWatch,
  otherLinks,
}

export type Question = keyof typeof QUESTIONS

const [question, ...args] = process.argv.slice(2) as [Question, string, string]
print(await QUESTIONS[question](...args))
