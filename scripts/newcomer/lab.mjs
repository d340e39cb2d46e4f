// A network of its own for the pages' examples: the interfaces and addresses that they name, where nobody else sends or listens.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'

// The other end of each pair drops what comes. 10.0.0.5, the receiver of the examples, is a neighbour entered for good.
const SETUP = `set -e
ip link set lo up
for name in eth0 eth2; do
  ip link add $name mtu 9000 type veth peer name far-$name mtu 9000
  ip link set far-$name up
  ip link set $name up
done
ip addr add 10.0.0.1/24 dev eth0
ip addr add 10.0.2.1/24 dev eth2
ip neigh add 10.0.0.5 lladdr 02:00:00:00:00:05 dev eth0
ip route add default via 10.0.0.5
echo ready
exec cat`

const DROP = ['setpriv', '--inh-caps=-all', '--ambient-caps=-all', '--bounding-set=-all']

/**
 * Makes the network. `enter` is put before a command that runs there, without any capability; where there is no such network it is empty,
 * and `why` says why. The network ends with `close`, and with this process.
 */
export async function openLab() {
  const none = (why) => ({ enter: [], why, close: () => undefined })
  if (process.platform !== 'linux') return none('network namespaces need Linux')
  for (const tool of ['unshare', 'nsenter', 'setpriv', 'ip'])
    if (spawnSync(tool, ['--version']).error) return none(`there is no command ${tool}`)
  const user = process.getuid() === 0 ? [] : ['--user', '--map-root-user']
  const holder = spawn('unshare', [...user, '--net', 'sh', '-c', SETUP], { stdio: ['pipe', 'pipe', 'pipe'] })
  let said = ''
  holder.stderr.setEncoding('utf8').on('data', (text) => {
    said += text
  })
  const ready = await Promise.race([once(holder.stdout, 'data').then(() => true), once(holder, 'close').then(() => false)])
  if (!ready) return none(`no network namespace: ${said.trim()}`)
  const enter = ['nsenter', '--target', `${holder.pid}`, ...(user.length > 0 ? ['--user', '--preserve-credentials'] : []), '--net']
  return { enter: [...enter, ...DROP], why: '', close: () => holder.stdin.end() }
}
