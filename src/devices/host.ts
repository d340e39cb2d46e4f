/** Whether a host is set up for a sender that runs for long: what the kernel tells of it, and the command that mends it. */
import { readdirSync, readFileSync } from 'node:fs'
import { getAffinity } from '../../ffi/affinity.js'
import { CAP_IPC_LOCK, CAP_NET_ADMIN, CAP_SYS_NICE, hasCapability, softLimit } from '../../ffi/capabilities.js'
import { type ClockOpinion, clockOpinion } from '../../ffi/clock.js'
import { nativeCallsWork } from '../../ffi/libc.js'
import { ANY_NODE } from '../../ffi/memory/numa.js'
import { cpuRanges } from '../../ffi/placement.js'
import { agreed, cpusOfNode, nodeOfInterface, numaNodes, rangesOf } from '../net/numa.js'

/** A setting of the host, and what to do about it. */
export interface HostCheck {
  /** What is looked at, such as 'CPU governor'. */
  readonly name: string
  /** 'ok'; 'warn': it may cost a sender speed or punctuality; 'unknown': nobody tells. */
  readonly state: 'ok' | 'warn' | 'unknown'
  /** What it is, for a person. */
  readonly value: string
  /** What that means; empty where the value says it. */
  readonly reason: string
  /** The command or the setting that changes it; empty where nothing is to be changed. */
  readonly remedy: string
}

/** What the checks ask. Tests put another host in its place. */
export interface Host {
  /** Where /sys and /proc/sys are. */
  readonly sysfs: string
  readonly sysctl: string
  /** The CPUs that this process may use. */
  readonly cpus: () => readonly number[]
  /** @throws where the kernel does not tell */
  readonly clock: () => ClockOpinion
  readonly has: (capability: number) => boolean | undefined
  readonly limit: typeof softLimit
}

const THIS_HOST: Host = {
  sysfs: '/sys',
  sysctl: '/proc/sys',
  cpus: getAffinity,
  clock: clockOpinion,
  has: hasCapability,
  limit: softLimit,
}

const MIB = 1 << 20
/** As much as a stream asks of its socket unless told otherwise, and a receiver. */
const SEND_BUFFER_BYTES = MIB
const RECEIVE_BUFFER_BYTES = 64 * MIB
/** Less is too little for the queues of ibverbs and batches of some MiB. */
const LOCKED_BYTES = 64 * MIB

type Verdict = Omit<HostCheck, 'name'>

const ok = (value: string, reason = '', remedy = ''): Verdict => ({ state: 'ok', value, reason, remedy })
const warn = (value: string, reason: string, remedy: string): Verdict => ({ state: 'warn', value, reason, remedy })
const unknown = (reason: string, value = 'unknown'): Verdict => ({ state: 'unknown', value, reason, remedy: '' })

/**
 * @param interfaces those that packets leave by
 * @returns nothing off Linux, and where native calls do not work
 */
export function checkHost(interfaces: readonly string[], host = THIS_HOST): HostCheck[] {
  if (process.platform !== 'linux' || !nativeCallsWork()) return []
  const checks: readonly (readonly [name: string, check: () => Verdict])[] = [
    ['CPU governor', () => governor(host)],
    ['isolated CPUs', () => isolated(host)],
    ['NUMA nodes', () => numa(interfaces, host)],
    ['huge pages', () => hugePages(host)],
    ['net.core.wmem_max', () => buffer('wmem_max', SEND_BUFFER_BYTES, 'sendBufferBytes', host)],
    ['net.core.rmem_max', () => buffer('rmem_max', RECEIVE_BUFFER_BYTES, 'receiveBufferBytes', host)],
    ['clock', () => clock(host)],
    ['TAI offset', () => tai(host)],
    ['real-time priority', () => realTime(host)],
    ['locked memory', () => locked(host)],
  ]
  return checks.map(([name, check]) => ({ name, ...check() }))
}

function governor({ sysfs, cpus }: Host): Verdict {
  const governors = cpus().map((cpu) => textOf(`${sysfs}/devices/system/cpu/cpu${cpu}/cpufreq/scaling_governor`))
  const told = governors.filter((name) => name !== '')
  if (told.length === 0) return unknown('the kernel sets no frequencies here, as in virtual machines', 'none')
  const slow = told.filter((name) => name !== 'performance')
  if (slow.length === 0) return ok('performance')
  return warn(
    `${[...new Set(slow)].join(', ')} on ${slow.length} of ${told.length} CPUs`,
    'a CPU that is slow until it is busy makes what is sent now and then late',
    'cpupower frequency-set -g performance',
  )
}

function isolated({ sysfs, cpus }: Host): Verdict {
  const listed = (name: string): number[] => rangesOf(textOf(`${sysfs}/devices/system/cpu/${name}`))
  const alone = listed('isolated')
  const untimed = listed('nohz_full')
  if (alone.length === 0 && untimed.length === 0)
    return ok(
      'none',
      'all programs share all CPUs',
      'boot with isolcpus=managed_irq,domain,LIST nohz_full=LIST, then give affinity LIST',
    )
  const usable = new Set(cpus())
  const value = `isolcpus ${cpuRanges(alone) || 'none'}, nohz_full ${cpuRanges(untimed) || 'none'}`
  const mine = alone.filter((cpu) => usable.has(cpu))
  const use = mine.length > 0 ? mine : alone
  return use.length === 0 ? ok(value) : ok(value, 'nothing runs there unless it is told to', `give affinity ${cpuRanges(use)}`)
}

function numa(interfaces: readonly string[], { sysfs, cpus }: Host): Verdict {
  const nodes = numaNodes(sysfs)
  if (nodes.length < 2) return ok('one')
  const usable = cpus()
  const mine = nodes.filter((node) => cpusOfNode(node, sysfs).some((cpu) => usable.includes(cpu)))
  const runs = `this process may run on node ${cpuRanges(mine)} of ${cpuRanges(nodes)}`
  if (interfaces.length === 0) return ok(runs)
  const node = agreed(interfaces.map((name) => nodeOfInterface(name, sysfs)))
  const names = interfaces.join(', ')
  if (node === ANY_NODE) return unknown(`the system tells no node of ${names}, or several`, runs)
  const value = `${names} on node ${node}; ${runs}`
  if (mine.length === 1 && mine[0] === node) return ok(value)
  const near = cpuRanges(cpusOfNode(node, sysfs))
  return warn(
    value,
    'memory and device are farther away from CPUs of another node',
    `give affinity ${near}, the CPUs of node ${node}; or numactl --cpunodebind=${node} COMMAND`,
  )
}

function hugePages({ sysfs }: Host): Verdict {
  const folder = `${sysfs}/kernel/mm/hugepages`
  const pools = namesIn(folder).flatMap((name) => {
    const kibibytes = Number(/^hugepages-(\d+)kB$/.exec(name)?.[1])
    const [all, free] = [numberOf(`${folder}/${name}/nr_hugepages`), numberOf(`${folder}/${name}/free_hugepages`)]
    return all > 0 ? [{ text: `${free} of ${all} free, ${kibibytes / 1024} MiB each`, usable: kibibytes === 2048 && free > 0 }] : []
  })
  const transparent = /\[(\w+)\]/.exec(textOf(`${sysfs}/kernel/mm/transparent_hugepage/enabled`))?.[1] ?? 'none'
  const value = [...pools.map(({ text }) => text), `transparent ones: ${transparent}`].join('; ')
  if (pools.some(({ usable }) => usable) || transparent === 'always' || transparent === 'madvise') return ok(value)
  return warn(value, 'batches of ordinary pages are sent slower', 'sysctl -w vm.nr_hugepages=512')
}

function buffer(name: 'wmem_max' | 'rmem_max', wanted: number, option: string, { sysctl, has }: Host): Verdict {
  const granted = numberOf(`${sysctl}/net/core/${name}`)
  if (Number.isNaN(granted)) return unknown('/proc/sys does not tell, as in some containers')
  const value = `${granted} bytes`
  if (granted >= wanted) return ok(value)
  if (has(CAP_NET_ADMIN)) return ok(value, 'CAP_NET_ADMIN gets a larger buffer')
  return warn(value, `less than ${option} asks for by itself, ${wanted}`, `sysctl -w net.core.${name}=${wanted}`)
}

function clock(host: Host): Verdict {
  const opinion = opinionOf(host)
  if (opinion === undefined) return unknown('the kernel does not tell (adjtimex)')
  const { synchronised, maxErrorSeconds: error, leapSeconds: leap } = opinion
  const coming = leap === 0 ? '' : `; a leap second ${leap > 0 ? 'more' : 'fewer'} at the end of the day`
  if (synchronised) return ok(`synchronised, off by ${(error * 1000).toFixed(1)} ms at most${coming}`)
  return warn(`not synchronised${coming}`, 'no daemon keeps it in step', 'timedatectl set-ntp true (or install chrony)')
}

function tai(host: Host): Verdict {
  const seconds = opinionOf(host)?.taiOffsetSeconds
  if (seconds === undefined) return unknown('the kernel does not tell (adjtimex)')
  if (seconds > 0) return ok(`${seconds} s`)
  return warn(
    '0 s',
    'nobody has told the kernel, so that its TAI is UTC',
    "the line `leapsectz right/UTC` in chrony.conf, or phc2sys -a -r (linuxptp) where ptp4l's clock is on TAI",
  )
}

function opinionOf({ clock: ask }: Host): ClockOpinion | undefined {
  try {
    return ask()
  } catch {
    return undefined
  }
}

function realTime({ sysctl, has, limit }: Host): Verdict {
  const level = limit('Max realtime priority')
  const runtime = numberOf(`${sysctl}/kernel/sched_rt_runtime_us`)
  const period = numberOf(`${sysctl}/kernel/sched_rt_period_us`)
  const share = runtime >= 0 && period > 0 ? `such threads get ${Math.round((100 * runtime) / period)} % of a CPU at most` : ''
  if (has(CAP_SYS_NICE)) return ok('allowed by CAP_SYS_NICE', share)
  if (level === undefined) return unknown('/proc does not tell')
  if (level > 0) return ok(`allowed up to rr:${Math.min(99, level)}`, share)
  return warn(
    'not allowed',
    'priority may only be a nice value that is not below the process’s own',
    'systemd: LimitRTPRIO=20; docker: --ulimit rtprio=20 or --cap-add SYS_NICE; a shell: a line `USER - rtprio 20` in /etc/security/limits.conf',
  )
}

function locked({ has, limit }: Host): Verdict {
  if (has(CAP_IPC_LOCK)) return ok('any, by CAP_IPC_LOCK')
  const bytes = limit('Max locked memory')
  if (bytes === undefined) return unknown('/proc does not tell')
  const value = bytes === Number.POSITIVE_INFINITY ? 'any' : `${bytes} bytes`
  if (bytes >= LOCKED_BYTES) return ok(value)
  return warn(
    value,
    "backends 'ibverbs' and 'rdma-ud' pin the memory of batches and queues",
    'ulimit -l unlimited; systemd: LimitMEMLOCK=infinity; docker: --ulimit memlock=-1',
  )
}

/** Without the newline; empty where it cannot be read. */
function textOf(path: string): string {
  try {
    return readFileSync(path, 'latin1').trim()
  } catch {
    return ''
  }
}

function numberOf(path: string): number {
  const text = textOf(path)
  return text === '' ? Number.NaN : Number(text)
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder).sort()
  } catch {
    return []
  }
}
