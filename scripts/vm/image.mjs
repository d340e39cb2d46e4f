// Makes the parts of the VM, below .cache/vm: qemu and busybox for this machine, a Debian kernel, and the guest's packages. All
// come through this machine's own apt sources into a folder of their own. Nothing is installed here, and apt's lists and dpkg's
// state stay as they are.
//
// | folder  | what                                                                          |
// |---------|-------------------------------------------------------------------------------|
// | apt     | package lists                                                                 |
// | debs    | what was downloaded; checked against the SHA256 of the (signed) package index |
// | host    | qemu and busybox with the libraries that this machine lacks                   |
// | guest   | laid over this machine's root in the guest: verbs libraries, tools, modules   |
// | boot    | vmlinux, initrd.img                                                           |
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { lock } from '../lib/mutex.mjs'
import { at, checkInterrupted, digest, interrupted, Quit, read, readJson, say, step } from '../lib/process.mjs'
import { cpio } from './cpio.mjs'

const HOST = ['qemu-system-x86', 'busybox-static', 'xz-utils']
const GUEST = [
  'libibverbs1',
  'ibverbs-providers',
  'librdmacm1',
  'rdmacm-utils',
  'ibverbs-utils',
  'perftest',
  'iproute2',
  'iputils-ping',
  'tcpdump',
]
const KERNEL = 'linux-image-amd64'

/** The kernel's modules that the guest gets: networks, RDMA, the root file system and what these need, but no hardware drivers. */
const MODULE_FOLDERS = [
  'arch/x86/crypto',
  'crypto',
  'drivers/block/virtio_blk.ko*',
  'drivers/char/virtio_console.ko*',
  'drivers/infiniband',
  'drivers/net/*.ko*',
  'drivers/net/bonding',
  'drivers/net/ipvlan',
  'drivers/virtio',
  'fs/9p',
  'fs/configfs',
  'fs/fscache',
  'fs/netfs',
  'fs/overlayfs',
  'lib',
  'net',
]
/** Modules that the initramfs loads to reach the root, in order of need. A kernel that has one built in has no such module. */
const ROOT_MODULES = ['virtio_pci', 'virtio_console', '9pnet_virtio', '9p', 'overlay']

const HOME = at('.cache/vm')
const LIBRARIES = join(HOME, 'host/usr/lib/x86_64-linux-gnu')
const STAMP = join(HOME, 'stamp.json')
const INIT = fileURLToPath(new URL('guest/init.sh', import.meta.url))

/** Makes what is not current. @returns qemu, the folders and the files of a machine */
export async function image() {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    refuse(`it is of ${process.platform} on ${process.arch}; only linux on x64 is known`)
  if (!current()) {
    if (spawnSync('apt-get', ['--version']).error || spawnSync('dpkg-deb', ['--version']).error)
      refuse('qemu and the kernel come by apt-get and dpkg-deb, which this machine has not')
    mkdirSync(HOME, { recursive: true })
    const onWait = ({ pid }) => say(`waiting for process ${pid}, which is making the VM`)
    const release = await lock(join(HOME, 'lock'), { signal: interrupted, onWait }).catch((error) => {
      checkInterrupted()
      throw error
    })
    try {
      if (!current()) await make()
    } finally {
      release()
    }
  }
  return {
    qemu: join(HOME, 'host/usr/bin/qemu-system-x86_64'),
    firmware: ['qemu', 'seabios'].map((name) => join(HOME, 'host/usr/share', name)),
    libraries: LIBRARIES,
    guest: join(HOME, 'guest'),
    kernel: join(HOME, 'boot/vmlinux'),
    initrd: join(HOME, 'boot/initrd.img'),
    ...readJson(STAMP).versions,
  }
}

const refuse = (why) => {
  say(`no VM on this machine: ${why}`)
  throw new Quit(1)
}

/** The guest sees this machine's packages beneath its own, so what is missing depends on what dpkg says is here. */
const wanted = () =>
  digest(
    HOST,
    GUEST,
    KERNEL,
    MODULE_FOLDERS,
    ROOT_MODULES,
    read(INIT),
    read(fileURLToPath(import.meta.url)),
    read('/var/lib/dpkg/status'),
  )

const current = () => existsSync(STAMP) && readJson(STAMP).wanted === wanted()

async function make() {
  const start = performance.now()
  rmSync(STAMP, { force: true })
  const { host, guest, kernel } =
    resolve() ?? (await update().then(resolve)) ?? refuse('apt-get finds no candidates for its packages')
  await download([...host, ...guest, kernel])
  for (const folder of ['host', 'guest', 'boot']) rmSync(join(HOME, folder), { recursive: true, force: true })
  for (const deb of host) unpack(deb, join(HOME, 'host'))
  for (const deb of guest) unpack(deb, join(HOME, 'guest'))
  const busybox = join(HOME, 'host/usr/bin/busybox')
  unpack(kernel, join(HOME, 'boot'), ['./boot', ...MODULE_FOLDERS.map((path) => `./lib/modules/*/kernel/${path}`)])
  await install(kernel, busybox)
  const used = new Set([...host, ...guest, kernel].map(({ file }) => file))
  for (const file of readdirSync(join(HOME, 'debs'))) if (!used.has(file)) rmSync(join(HOME, 'debs', file))
  const versions = {
    kernelPackage: `${kernel.name} ${kernel.version}`,
    qemuPackage: `qemu ${host.find(({ name }) => name === HOST[0])?.version}`,
  }
  writeFileSync(STAMP, JSON.stringify({ wanted: wanted(), versions }))
  say(`made the VM in ${((performance.now() - start) / 1000).toFixed(1)} s: ${versions.kernelPackage}, ${versions.qemuPackage}`)
}

const lists = join(HOME, 'apt/lists')

function apt(program, ...args) {
  const own = [
    `Dir::State::Lists=${lists}`,
    `Dir::Cache=${join(HOME, 'apt')}`,
    'Debug::NoLocking=1',
    'APT::Sandbox::User=',
    'Acquire::Retries=3',
  ]
  return [program, [...own.flatMap((option) => ['-o', option]), '-qq', ...args]]
}

function ask(program, ...args) {
  const { status, stdout } = spawnSync(...apt(program, ...args), {
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C' },
    maxBuffer: 1 << 26,
  })
  return status === 0 ? stdout : undefined
}

async function update() {
  mkdirSync(join(lists, 'partial'), { recursive: true })
  mkdirSync(join(HOME, 'apt/archives/partial'), { recursive: true })
  say('reading the package lists (apt-get update, into .cache/vm)')
  const { status } = await step(...apt('apt-get', 'update'))
  if (status !== 0) refuse('apt-get update failed')
}

/** Packages to unpack: those named above with dependencies that are not installed here, and the kernel. */
function resolve() {
  const [{ depends } = {}] = facts([KERNEL]) ?? []
  const head = depends?.match(/^linux-image-[^ ,]+/)?.[0]
  const host = missing(HOST)
  const guest = missing(GUEST)
  const kernel = head && facts([head])?.[0]
  return host && guest && kernel && { host, guest, kernel }
}

/** The packages of these names, and their dependencies that are not installed here. */
function missing(names) {
  const listed = ask(
    'apt-get',
    'install',
    '--yes',
    '--no-install-recommends',
    '--no-remove',
    '--reinstall',
    '--print-uris',
    ...names,
  )
  const files = listed?.match(/^'[^']+' \S+/gm)?.map((line) => line.split(' ')[1].split('_'))
  return files && facts(files.map(([name, version]) => `${name}=${decodeURIComponent(version)}`))
}

/** Records of the package index; undefined unless it knows all of the packages. */
function facts(wishes) {
  const records = (ask('apt-cache', 'show', '--no-all-versions', ...wishes) ?? '').split('\n\n').filter(Boolean)
  const found = records.map((text) => {
    const field = (name) => text.match(new RegExp(`^${name}: (.*)$`, 'm'))?.[1]
    const [name, version, depends, sha256] = ['Package', 'Version', 'Depends', 'SHA256'].map(field)
    return { name, version, depends, sha256, file: `${name}_${sha256?.slice(0, 16)}.deb` }
  })
  return found.length === wishes.length && found.every(({ sha256 }) => sha256) ? found : undefined
}

const matches = ({ file, sha256 }) => {
  const path = join(HOME, 'debs', file)
  return existsSync(path) && createHash('sha256').update(readFileSync(path)).digest('hex') === sha256
}

async function download(packages) {
  const debs = join(HOME, 'debs')
  mkdirSync(debs, { recursive: true })
  const wishes = packages.filter((item) => !matches(item))
  if (wishes.length === 0) return
  say(`downloading ${wishes.length} Debian packages into .cache/vm (the guest's; nothing is installed)`)
  const into = join(HOME, 'incoming')
  rmSync(into, { recursive: true, force: true })
  mkdirSync(into)
  const [program, args] = apt('apt-get', 'download', ...new Set(wishes.map(({ name, version }) => `${name}=${version}`)))
  const { status } = await step('sh', ['-c', 'cd "$0" && exec "$@"', into, program, ...args])
  if (status !== 0) refuse('apt-get download failed')
  for (const { name, sha256, file } of wishes) {
    const came = readdirSync(into).find((other) => other.startsWith(`${name}_`))
    const bytes = came ? readFileSync(join(into, came)) : Buffer.alloc(0)
    if (createHash('sha256').update(bytes).digest('hex') !== sha256)
      refuse(`${name} is not what the package index says: another SHA256`)
    writeFileSync(join(debs, file), bytes)
  }
  rmSync(into, { recursive: true })
}

/** Debian's merged /usr, which packages of bookworm still write around: without the links an overlay would hide this machine's. */
function mergedRoot(root) {
  if (existsSync(join(root, 'usr'))) return
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) {
    mkdirSync(join(root, 'usr', name), { recursive: true })
    symlinkSync(join('usr', name), join(root, name))
  }
}

function unpack({ file, name }, root, only = []) {
  checkInterrupted()
  mergedRoot(root)
  const tar = [
    '-x',
    '-C',
    root,
    '--keep-directory-symlink',
    '--no-same-owner',
    ...(only.length > 0 ? ['--wildcards', ...only] : []),
  ]
  const script = 'deb=$1; shift; dpkg-deb --fsys-tarfile "$deb" | tar "$@"'
  const { status, stderr } = spawnSync('sh', ['-c', script, 'sh', join(HOME, 'debs', file), ...tar], { encoding: 'utf8' })
  const absent = only.length > 0 && /Not found in archive/.test(stderr)
  if (status !== 0 && !absent) refuse(`${name} could not be unpacked: ${stderr.trim()}`)
}

/** The kernel's image, its modules for the guest, and the initramfs. */
async function install(kernel, busybox) {
  const boot = join(HOME, 'boot')
  const release = kernel.name.slice('linux-image-'.length)
  const modules = join(boot, 'usr/lib/modules', release)
  writeFileSync(join(boot, 'vmlinux'), uncompressed(readFileSync(join(boot, 'boot', `vmlinuz-${release}`))))
  const depmod = spawnSync(busybox, ['depmod', '-b', boot, release], { encoding: 'utf8' })
  if (depmod.status !== 0) refuse(`depmod failed: ${depmod.stderr}`)
  mergedRoot(join(HOME, 'guest'))
  mkdirSync(join(HOME, 'guest/usr/lib/modules'), { recursive: true })
  const moved = spawnSync('mv', [modules, join(HOME, 'guest/usr/lib/modules')], { encoding: 'utf8' })
  if (moved.status !== 0) refuse(moved.stderr)
  for (const name of readdirSync(boot)) if (name !== 'vmlinux') rmSync(join(boot, name), { recursive: true })
  const guestBusybox = join(HOME, 'guest/usr/lib/vm/busybox')
  mkdirSync(join(HOME, 'guest/usr/lib/vm'), { recursive: true })
  writeFileSync(guestBusybox, readFileSync(busybox))
  chmodSync(guestBusybox, 0o755)
  writeFileSync(join(boot, 'initrd.img'), initramfs(join(HOME, 'guest/usr/lib/modules', release), busybox))
}

/**
 * A bzImage's payload, which boots by PVH in a third of the time. An image that is not packed by xz stays as it is: qemu boots that
 * too.
 */
function uncompressed(bzImage) {
  const start = bzImage.indexOf(Buffer.from('fd377a585a00', 'hex'))
  if (start < 0) return bzImage
  const options = { input: bzImage.subarray(start), maxBuffer: 1 << 28, env: { ...process.env, LD_LIBRARY_PATH: LIBRARIES } }
  // The payload is followed by bytes that are not xz's.
  const { stdout } = spawnSync(join(HOME, 'host/usr/bin/xz'), ['-dc', '--single-stream'], options)
  return stdout.subarray(0, 4).toString('latin1') === '\x7fELF' ? stdout : bzImage
}

function initramfs(modules, busybox) {
  const byName = new Map()
  for (const line of read(join(modules, 'modules.dep')).split('\n').filter(Boolean)) {
    const [path, needs] = line.split(':')
    byName.set(
      basename(path)
        .replace(/\.ko.*/, '')
        .replaceAll('-', '_'),
      { path, needs: needs.trim().split(' ').filter(Boolean) },
    )
  }
  const order = []
  const add = (path) => {
    const entry = [...byName.values()].find((other) => other.path === path)
    for (const need of entry.needs) add(need)
    if (!order.includes(path)) order.push(path)
  }
  for (const name of ROOT_MODULES) if (byName.has(name)) add(byName.get(name).path)
  return cpio([
    ...['bin', 'dev', 'proc', 'sys', 'modules', 'host', 'tools', 'rw', 'root', 'job'].map((path) => ({ path, mode: 0o40755 })),
    { path: 'bin/busybox', mode: 0o100755, data: readFileSync(busybox) },
    { path: 'init', mode: 0o100755, data: readFileSync(INIT) },
    ...order.map((path, i) => ({
      path: `modules/${String(i).padStart(2, '0')}-${basename(path)}`,
      mode: 0o100644,
      data: readFileSync(join(modules, path)),
    })),
  ])
}
