// A network namespace whose only way out is an ifb: it takes GSO super-packets, needs no ARP and drops everything it is given, so a
// sender is measured without a receiver. It frees a packet at once, which no real interface does: rates are upper bounds.
import { execFileSync } from 'node:child_process'
import { $ } from 'zx'

export const INTERFACE = 'ifb9'
export const PORT = 7148
export const DESTINATION = `10.99.0.2:${PORT}`
/** Ethernet, IPv4 and UDP headers; a GSO message carries them once. */
export const FRAME_OVERHEAD_BYTES = 42

const MTU = 9100

/** Makes one. Whoever made it calls close(), which is also safe in an exit handler. Needs root. */
export async function openBlackHole() {
  if (process.getuid() !== 0) throw new Error('the black hole is a network namespace: run as root')
  const name = `speadcast-bench-${process.pid}`
  const ip = (...args) => $`ip -n ${name} ${args}`.quiet()
  let child
  const close = () => {
    // A process group of its own: zx's shell and what it started.
    if (child)
      try {
        process.kill(-child.pid, 'SIGKILL')
      } catch {} // ended meanwhile
    try {
      execFileSync('ip', ['netns', 'del', name], { stdio: 'ignore' })
    } catch {} // closed before
  }
  await $`ip netns add ${name}`.quiet()
  process.once('exit', close)
  try {
    // Router solicitations and the like would be counted with the rest.
    await $`ip netns exec ${name} sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1`.quiet()
    // As on any host: speadcast asks it how many segments a message may have.
    await ip('link', 'set', 'lo', 'up')
    await ip('link', 'add', INTERFACE, 'type', 'ifb')
    await ip('link', 'set', INTERFACE, 'mtu', MTU, 'up')
    await ip('addr', 'add', '10.99.0.1/24', 'dev', INTERFACE)
  } catch (error) {
    close()
    throw error
  }
  return {
    name,
    /** Put before a command to run it inside. */
    prefix: ['ip', 'netns', 'exec', name],
    /** Runs a command inside, one at a time; returns its stdout, throws if it fails. close() kills it. */
    async run(command) {
      child = $({ quiet: true, detached: true })`ip netns exec ${name} ${command}`
      try {
        return (await child).stdout
      } finally {
        child = undefined
      }
    },
    /** What the interface was given so far; an ifb counts it as received. A GSO message is one packet, its headers counted once. */
    async counters() {
      const [link] = JSON.parse((await ip('-j', '-s', 'link', 'show', INTERFACE)).stdout)
      return { packets: link.stats64.rx.packets, bytes: link.stats64.rx.bytes }
    },
    /** Whether messages are cut into segments before the interface, as for a card without segmentation offload. */
    async segmentInSoftware(yes) {
      await ip('link', 'set', INTERFACE, 'gso_max_segs', yes ? 1 : 65535)
    },
    close,
  }
}
