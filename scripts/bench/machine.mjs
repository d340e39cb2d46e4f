// Describes the machine that figures are measured on, and watches how disturbed it is meanwhile.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import os from 'node:os'
import { join } from 'node:path'
import { $ } from 'zx'
import { at, digest, filesIn, read, readJson } from '../lib/process.mjs'

const VULNERABILITIES = '/sys/devices/system/cpu/vulnerabilities'
const THP = '/sys/kernel/mm/transparent_hugepage/enabled'

/** Only those that apply to this CPU. */
function mitigations() {
  if (!existsSync(VULNERABILITIES)) return {}
  const all = readdirSync(VULNERABILITIES).map((name) => [name, readFileSync(join(VULNERABILITIES, name), 'utf8').trim()])
  return Object.fromEntries(all.filter(([, state]) => state !== 'Not affected'))
}

/** Digest of the sources that are measured: ours, and the programs beside it. Rows of two digests do not belong into one file. */
function sources() {
  const own = ['src', 'ffi'].flatMap((folder) => filesIn(at(folder)).map((file) => join(folder, file)))
  const programs = filesIn(at('scripts/bench')).filter((file) =>
    /(\.c|\.py|^(arguments|ours|dgram|verbs-ours|paced|mainthread|growth-ours)\.mjs)$/.test(file),
  )
  const all = ['rolldown.config.mjs', ...own, ...programs.map((file) => join('scripts/bench', file))]
  return digest(all.map((file) => [file, read(at(file))])).slice(0, 16)
}

export async function describeMachine() {
  const git = async (...args) => (await $({ cwd: at(), nothrow: true, quiet: true })`git ${args}`).stdout.trim()
  return {
    kind: 'machine',
    date: new Date().toISOString(),
    cpu: os.cpus()[0].model,
    cpus: os.cpus().length,
    memoryBytes: os.totalmem(),
    kernel: `${os.type()} ${os.release()} ${os.machine()}`,
    hypervisor: /^flags.*\bhypervisor\b/m.test(readFileSync('/proc/cpuinfo', 'utf8')),
    mitigations: mitigations(),
    transparentHugePages: existsSync(THP) ? /\[(\w+)\]/.exec(readFileSync(THP, 'utf8'))?.[1] : 'none',
    node: process.version,
    v8: process.versions.v8,
    koffi: readJson(at('node_modules/koffi/package.json')).version,
    gcc: (await $({ nothrow: true, quiet: true })`gcc -dumpfullversion`).stdout.trim(),
    commit: await git('rev-parse', 'HEAD'),
    sources: sources(),
    // Changed rows and pages do not count.
    dirty: (await git('status', '--porcelain', '--', 'src', 'ffi', 'scripts', 'rolldown.config.mjs', 'package-lock.json')) !== '',
  }
}

/** Words of the first line of a file in /proc, behind a program's name in brackets. */
const fields = (file) => {
  const [line] = readFileSync(file, 'utf8').split('\n')
  return line
    .slice(line.lastIndexOf(')') + 1)
    .trim()
    .split(/\s+/)
}

function nameOf(process) {
  try {
    return readFileSync(join('/proc', process, 'comm'), 'utf8')
  } catch {
    return '' // ended meanwhile
  }
}
/** Kernel threads that hand packets over when the sender's own time slice was too short. They do a run's own work. */
const packetThreads = readdirSync('/proc').filter((id) => /^\d+$/.test(id) && nameOf(id).startsWith('ksoftirqd/'))

/** Ticks of the whole machine, and of this process with the children it has waited for. proc(5). */
function sample() {
  const [user, nice, system, idle, iowait, irq, softirq, steal] = fields('/proc/stat').slice(1).map(Number)
  const ticksOf = (id, from, to) =>
    fields(join('/proc', id, 'stat'))
      .slice(from, to)
      .reduce((sum, ticks) => sum + Number(ticks), 0)
  const busy = user + nice + system + irq + softirq
  const mine = packetThreads.reduce((sum, id) => sum + ticksOf(id, 11, 13), ticksOf('self', 11, 15))
  return { all: busy + idle + iowait + steal, steal, busy, mine }
}

/** Starts watching; the function returned tells which share of the machine was stolen by its host or used by other processes. */
export function watchLoad() {
  const before = sample()
  return () => {
    const after = sample()
    const ticks = Math.max(1, after.all - before.all)
    const other = Math.max(0, after.busy - before.busy - (after.mine - before.mine))
    const share = (part) => Math.round((part / ticks) * 1000) / 1000
    return { stealShare: share(after.steal - before.steal), otherShare: share(other) }
  }
}
