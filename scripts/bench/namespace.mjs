// A network namespace of the benchmark's own, and the programs that run in it.
import { execFileSync } from 'node:child_process'
import { $ } from 'zx'

/** Makes one, with lo up. Its maker calls close(), which is also safe in an exit handler. Needs root. */
export async function openNamespace(suffix = '') {
  if (process.getuid() !== 0) throw new Error('the benchmark makes network namespaces: run as root')
  const name = `speadcast-bench-${process.pid}${suffix}`
  const prefix = ['ip', 'netns', 'exec', name]
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
  const ip = (...args) => $`ip -n ${name} ${args}`.quiet()
  try {
    // Router solicitations and the like would be counted with the rest.
    await $`${prefix} sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1`.quiet()
    // As on any host: speadcast asks it how many segments a message may have.
    await ip('link', 'set', 'lo', 'up')
  } catch (error) {
    close()
    throw error
  }
  return {
    name,
    /** Put before a command to run it inside. */
    prefix,
    ip,
    /** Runs a command inside, one at a time; returns its stdout, throws if it fails. close() kills it. */
    async run(command, env = {}) {
      child = $({ quiet: true, detached: true, env: { ...process.env, ...env } })`${prefix} ${command}`
      try {
        return (await child).stdout
      } finally {
        child = undefined
      }
    },
    async statistics(link) {
      return JSON.parse((await ip('-j', '-s', 'link', 'show', link)).stdout)[0].stats64
    },
    close,
  }
}
