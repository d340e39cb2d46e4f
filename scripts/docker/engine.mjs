// The engine for the docker tests: one that answers already, or, as root on Debian, a private one that leaves nothing behind.
import { spawn, spawnSync } from 'node:child_process'
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  symlinkSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { $ } from 'zx'
import { engineRoot } from './packages.mjs'

const FOLDER = 'speadcast-docker-'
const START_SECONDS = 30
const STOP_SECONDS = 20

const answers = (env, args) =>
  spawnSync('docker', args, { env: { ...process.env, ...env }, stdio: 'ignore', timeout: 20_000 }).status === 0

/**
 * @returns {Promise<{ kind: 'present' | 'private', environment: Record<string, string>, stop: () => Promise<string[]> }>} `stop`
 * returns the names of things that it could not remove
 * @throws Error with the reason when there is no engine to be had
 */
export async function openEngine(say) {
  if (answers({}, ['info'])) {
    if (!answers({}, ['compose', 'version'])) throw new Error('the engine here has no compose plugin (docker compose)')
    return { kind: 'present', environment: {}, stop: async () => [] }
  }
  if (process.platform !== 'linux') throw new Error('no container engine answers (docker info)')
  if (process.getuid() !== 0) throw new Error('no container engine answers (docker info), and only root can start one')
  if (spawnSync('apt-get', ['--version']).error || spawnSync('dpkg-deb', ['--version']).error)
    throw new Error('no container engine answers (docker info), and there is no apt to get one by')
  return privateEngine(await engineRoot(say), say)
}

/** Programs that Debian names by update-alternatives, which does not run for what is only unpacked. */
function commandFolder(root, work) {
  const folder = join(work, 'bin')
  mkdirSync(folder)
  const xtables = join(root, 'usr/sbin/xtables-nft-multi')
  if (existsSync(xtables))
    for (const family of ['iptables', 'ip6tables'])
      for (const name of [family, `${family}-save`, `${family}-restore`]) symlinkSync(xtables, join(folder, name))
  return folder
}

/**
 * dockerd with network and mounts of its own. No bridge and no firewall rule reaches the host, and files that it writes to /etc,
 * /run and /opt go to a tmpfs above them, which ends with it.
 */
const START = `
set -e
ip link set lo up
for place in etc run opt; do
  mkdir -p "$WORK/above/$place" "$WORK/work/$place"
  mount -t overlay overlay -o "lowerdir=/$place,upperdir=$WORK/above/$place,workdir=$WORK/work/$place" "/$place"
done
exec dockerd "$@"
`

async function privateEngine(root, say) {
  sweep()
  const work = mkdtempSync(join(tmpdir(), `${FOLDER}${process.pid}-`))
  const cgroup = `${FOLDER}${process.pid}`
  await $`mount -t tmpfs tmpfs ${work}`
  const libraries = join(root, 'usr/lib', (await $`dpkg-architecture -qDEB_HOST_MULTIARCH`.nothrow()).stdout.trim() || multiarch())
  const path = [commandFolder(root, work), join(root, 'usr/sbin'), join(root, 'usr/bin'), '/usr/sbin', '/sbin', process.env.PATH]
  const environment = {
    DOCKER_HOST: `unix://${work}/docker.sock`,
    DOCKER_CONFIG: join(work, 'config'),
    PATH: path.join(delimiter),
    LD_LIBRARY_PATH: libraries,
    XTABLES_LIBDIR: join(libraries, 'xtables'),
  }
  mkdirSync(environment.DOCKER_CONFIG)
  symlinkSync(join(root, 'usr/libexec/docker/cli-plugins'), join(environment.DOCKER_CONFIG, 'cli-plugins'))
  const log = join(work, 'dockerd.log')
  const output = openSync(log, 'w')
  const args = ['--data-root', 'data', '--exec-root', 'exec', '--pidfile', 'dockerd.pid'].map((arg) =>
    arg.startsWith('--') ? arg : join(work, arg),
  )
  args.push('-H', environment.DOCKER_HOST, '--storage-driver', 'overlay2', '--cgroup-parent', `/${cgroup}`)
  args.push('--exec-opt', 'native.cgroupdriver=cgroupfs')
  // Should this process be killed, the engine ends with it, and the next run sweeps up its folder.
  const daemon = spawn(
    'setpriv',
    ['--pdeathsig', 'TERM', 'unshare', '--net', '--mount', '--propagation', 'private', 'sh', '-c', START, 'sh', ...args],
    {
      env: { ...process.env, ...environment, WORK: work },
      stdio: ['ignore', output, output],
      detached: true,
    },
  )
  // Held open, it would keep the tmpfs from being unmounted.
  closeSync(output)
  const ended = new Promise((resolve) => daemon.on('close', resolve))
  let alive = true
  ended.then(() => {
    alive = false
  })
  const remove = async () => {
    // A mount made by a container may be busy for a moment after its end.
    for (let tries = 0; tries < 20; tries++) {
      if ((await $`umount --recursive ${work}`.nothrow().quiet()).exitCode === 0) break
      await sleep(250)
    }
    rmSync(work, { recursive: true, force: true })
    for (const folder of cgroupFolders(cgroup)) rmdirDeep(folder)
  }
  /** Ends the engine and its containers; returns the names of what is left. */
  const stop = async () => {
    if (alive) {
      const containers =
        spawnSync('docker', ['ps', '-q'], { env: { ...process.env, ...environment }, encoding: 'utf8' }).stdout ?? ''
      const ids = containers.split(/\s+/).filter(Boolean)
      if (ids.length > 0) spawnSync('docker', ['rm', '-f', ...ids], { env: { ...process.env, ...environment }, stdio: 'ignore' })
      daemon.kill('SIGTERM')
      const late = setTimeout(() => process.kill(-daemon.pid, 'SIGKILL'), STOP_SECONDS * 1000)
      await ended
      clearTimeout(late)
    }
    await remove()
    return leftovers(work, cgroup)
  }
  const deadline = Date.now() + START_SECONDS * 1000
  while (alive && !answers(environment, ['info'])) {
    if (Date.now() > deadline) break
    await sleep(100)
  }
  if (alive && Date.now() <= deadline) return { kind: 'private', environment, stop }
  const why = readFileSync(log, 'utf8').trim().split('\n').slice(-3).join(' | ')
  await stop()
  say(`dockerd: ${why}`)
  throw new Error(`a private container engine did not start: ${why}`)
}

const multiarch = () => (process.arch === 'arm64' ? 'aarch64-linux-gnu' : 'x86_64-linux-gnu')

/** Takes away the folders of engines whose process is gone. */
function sweep() {
  for (const name of readdirSync(tmpdir())) {
    const pid = /^speadcast-docker-(\d+)-/.exec(name)?.[1]
    if (!pid || existsSync(`/proc/${pid}`)) continue
    const folder = join(tmpdir(), name)
    if (spawnSync('umount', ['--recursive', folder], { stdio: 'ignore' }).status === 0)
      rmSync(folder, { recursive: true, force: true })
    for (const cgroup of cgroupFolders(`${FOLDER}${pid}`)) rmdirDeep(cgroup)
  }
}

/** With cgroup v1 one for each controller. */
function cgroupFolders(name) {
  const top = '/sys/fs/cgroup'
  if (!existsSync(top)) return []
  const folders = [top, ...readdirSync(top, { withFileTypes: true }).map((entry) => join(top, entry.name))]
  return folders.map((folder) => join(folder, name)).filter((folder) => existsSync(folder))
}

function rmdirDeep(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) if (entry.isDirectory()) rmdirDeep(join(folder, entry.name))
  try {
    rmdirSync(folder)
  } catch {
    // leftovers() reports it
  }
}

function leftovers(work, cgroup) {
  const left = cgroupFolders(cgroup)
  if (existsSync(work)) left.push(work)
  for (const line of readFileSync('/proc/mounts', 'utf8').split('\n'))
    if (line.includes(work)) left.push(`mount ${line.split(' ')[1]}`)
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    let command = ''
    try {
      command = readFileSync(`/proc/${pid}/cmdline`, 'utf8')
    } catch {
      continue
    }
    if (command.includes(work)) left.push(`process ${pid} ${command.replaceAll('\0', ' ')}`)
  }
  return left
}
