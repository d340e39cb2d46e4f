// The ground of a soak: a namespace that sends and one that receives, two links between them, and addresses behind both links.
import { execFileSync, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { IPV4, IPV6 } from './streams.mjs'

/** Makes it. Its maker calls close(), which is also safe in an exit handler. Needs root. */
export function openGround() {
  const name = { a: `speadcast-soak-${process.pid}-a`, b: `speadcast-soak-${process.pid}-b` }
  const run = (command, args) => execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
  const children = new Set()
  const close = () => {
    for (const child of children) child.kill('SIGKILL')
    for (const each of Object.values(name))
      try {
        run('ip', ['netns', 'del', each])
      } catch {} // was not made
  }
  const ground = {
    /** Runs a command line, whose words have no spaces, in namespace a or b. */
    in: (where, line) => run('ip', ['netns', 'exec', name[where], ...line.split(' ')]),
    ip: (where, line) => run('ip', ['-n', name[where], ...line.split(' ')]),
    /** Starts a program of Node's there; `onLine` has each line of descriptor `fd` as the object that it is. */
    start(where, argv, fd, onLine) {
      const stdio = ['ignore', 'pipe', 'inherit', ...(fd === 3 ? ['pipe'] : [])]
      const child = spawn('ip', ['netns', 'exec', name[where], process.execPath, ...argv], { stdio })
      children.add(child)
      createInterface({ input: child.stdio[fd] }).on('line', (line) => onLine(JSON.parse(line)))
      const closed = new Promise((resolve) => child.on('close', (code, signal) => resolve(signal ?? code)))
      void closed.then(() => children.delete(child))
      return { child, closed }
    },
    close,
  }
  try {
    for (const each of Object.values(name)) run('ip', ['netns', 'add', each])
    for (const where of ['a', 'b']) {
      ground.ip(where, 'link set lo up')
      // An interface that goes down keeps its IPv6 addresses, and those that come are good at once.
      for (const knob of ['all', 'default']) {
        ground.in(where, `sysctl -qw net.ipv6.conf.${knob}.keep_addr_on_down=1`)
        ground.in(where, `sysctl -qw net.ipv6.conf.${knob}.accept_dad=0`)
      }
    }
    for (const [link, net] of [
      ['v', 77],
      ['w', 78],
    ]) {
      run('ip', ['link', 'add', `${link}0`, 'netns', name.a, 'type', 'veth', 'peer', 'name', `${link}1`, 'netns', name.b])
      for (const [where, end] of [
        ['a', 0],
        ['b', 1],
      ]) {
        ground.ip(where, `address add 10.${net}.0.${end + 1}/24 dev ${link}${end}`)
        ground.ip(where, `address add fd${net}::${end + 1}/64 dev ${link}${end} nodad`)
        ground.ip(where, `link set ${link}${end} up`)
      }
    }
    ground.ip('b', `address add ${IPV4.far}/32 dev lo`)
    ground.ip('b', `address add ${IPV6.far}/128 dev lo nodad`)
    restoreRoutes(ground)
    // Answers go back by the route on which the question came, or TCP would stand still while a link is down.
    ground.in('a', 'nft add table inet soak')
    ground.in('a', 'nft add chain inet soak out { type filter hook output priority 0 ; }')
  } catch (error) {
    close()
    throw error
  }
  return ground
}

/** The routes to the receiver, which go with the link's address. */
export function restoreRoutes(ground) {
  ground.ip('a', `route replace ${IPV4.far}/32 via ${IPV4.receiver}`)
  ground.ip('a', `route replace ${IPV6.far}/128 via ${IPV6.receiver}`)
}
