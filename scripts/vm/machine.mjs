// One run of the machine: boots, runs a command, brings back what it wrote and how it ended. Everything is emulated (TCG), so it
// works wherever qemu does, and takes its time.
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { copyFileSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { Transform } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { ROOT } from '../lib/process.mjs'

const START = fileURLToPath(new URL('guest/start.sh', import.meta.url))
const KERNEL_LINE =
  'console=ttyS0 quiet loglevel=4 panic=-1 nokaslr mitigations=off audit=0 random.trust_cpu=on tsc=reliable oops=panic'

const quote = (text) => `'${text.replaceAll("'", `'\\''`)}'`

/** A stream's bytes without the line `MARK STATUS` at its end, which it waits for. */
class Until extends Transform {
  #held = Buffer.alloc(0)
  #mark
  constructor(mark, onEnd) {
    super()
    this.#mark = Buffer.from(mark)
    this.onEnd = onEnd
  }
  _transform(chunk, _encoding, done) {
    let bytes = Buffer.concat([this.#held, chunk])
    const found = bytes.indexOf(this.#mark)
    const lineEnd = found < 0 ? -1 : bytes.indexOf('\n', found)
    if (lineEnd >= 0) {
      this.push(bytes.subarray(0, found))
      this.onEnd(Number(bytes.toString('latin1', found + this.#mark.length, lineEnd)))
      bytes = Buffer.alloc(0)
    }
    const keep = found >= 0 && lineEnd < 0 ? found : bytes.lastIndexOf(this.#mark[0])
    const cut = keep >= 0 && (found >= 0 || bytes.length - keep < this.#mark.length) ? keep : bytes.length
    this.push(bytes.subarray(0, cut))
    this.#held = bytes.subarray(cut)
    done()
  }
}

/** Removes the folders of killed runs. */
function sweep() {
  for (const name of readdirSync(tmpdir())) {
    const owner = name.match(/^speadcast-vm-(\d+)-/)?.[1]
    if (owner && !existsSync(`/proc/${owner}`)) rmSync(join(tmpdir(), name), { recursive: true, force: true })
  }
}

/**
 * @param image what image() returned
 * @param job { argv, cwd, env, prepare, deadlineMs, memoryMiB, onConsole, onStdout, onStderr, signal, fill, drain }; `prepare` are lines
 *   of sh before the command; `fill(folder)` and `drain(folder)` see the folder that is /run/vm in the guest, before and after
 * @returns { status } of the command, or { failed } with why there is none
 */
export async function runInMachine(image, job) {
  sweep()
  const folder = mkdtempSync(join(tmpdir(), `speadcast-vm-${process.pid}-`))
  try {
    const mark = `\u0001${randomBytes(12).toString('hex')}`
    copyFileSync(START, join(folder, 'start.sh'))
    writeFileSync(join(folder, 'mark'), mark)
    writeFileSync(join(folder, 'job.sh'), script(job))
    job.fill?.(folder)
    const result = await boot(image, { ...job, folder, mark })
    job.drain?.(folder)
    return result
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function script({ argv, cwd, env, prepare = '' }) {
  const settings = Object.entries(env).map(([name, value]) => `export ${name}=${quote(value)}`)
  const path = `export PATH=${quote(dirname(process.execPath))}:${quote(join(ROOT, 'scripts/vm/guest'))}:$PATH`
  return `(\n${[...settings, path, `cd ${quote(cwd)} || exit 126`, prepare, `exec ${argv.map(quote).join(' ')}`].join('\n')}\n)\n`
}

function share(id, path, readonly) {
  const options = `local,id=${id},path=${path},security_model=none,multidevs=remap${readonly ? ',readonly=on' : ''}`
  return ['-fsdev', options, '-device', `virtio-9p-pci,fsdev=${id},mount_tag=${id}`]
}

const port = (name, fd) => ['-chardev', `socket,id=${name},fd=${fd}`, '-device', `virtserialport,chardev=${name},name=${name}`]

/** Without AVX, which costs more to emulate than it saves: node starts in two thirds of the time that `max` takes. */
const PROCESSOR = 'Nehalem,+rdrand'

/**
 * Two NUMA nodes of a processor and half the memory each, and on the second a network card that no driver takes by itself. The card has no
 * `-netdev`, so it drops what it is given. Behind a hub without a peer it would keep it, and a sender would wait for ever.
 */
function nodes(memoryMiB) {
  const halves = [memoryMiB - (memoryMiB >> 1), memoryMiB >> 1]
  const node = (mebibytes, i) => [
    ...['-object', `memory-backend-ram,id=memory${i},size=${mebibytes}M`],
    ...['-numa', `node,nodeid=${i},cpus=${i},memdev=memory${i}`],
  ]
  const bridges = [
    '-device',
    'pxb-pcie,id=far,bus=pcie.0,bus_nr=64,numa_node=1',
    '-device',
    'pcie-root-port,id=farSlot,bus=far,chassis=1',
  ]
  const card = ['-device', 'virtio-net-pci,bus=farSlot,romfile=']
  return [...halves.flatMap(node), ...bridges, ...card]
}

function boot(image, { folder, mark, deadlineMs, memoryMiB = 1536, onConsole, onStdout, onStderr, signal }) {
  const args = [
    ['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', ...image.firmware.flatMap((path) => ['-L', path])],
    ['-M', 'q35', '-accel', 'tcg,thread=multi,tb-size=256', '-cpu', PROCESSOR, '-smp', '2', '-m', String(memoryMiB)],
    ['-kernel', image.kernel, '-initrd', image.initrd, '-append', KERNEL_LINE],
    ['-chardev', 'socket,id=console,fd=3', '-serial', 'chardev:console'],
    ['-device', 'virtio-serial-pci', ...port('stdout', 4), ...port('stderr', 5)],
    [...share('hostroot', '/', true), ...share('tools', image.guest, true), ...share('job', folder, false)],
    // Behind the others, which would take the far bridge for their bus.
    nodes(memoryMiB),
  ].flat()
  const env = { ...process.env, LD_LIBRARY_PATH: image.libraries }
  // Dies with this process, even if that is killed.
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', image.qemu, ...args], {
    env,
    stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe', 'pipe'],
  })
  return new Promise((resolve) => {
    let ended
    const statuses = []
    const end = (result) => {
      ended ??= result
      child.kill('SIGKILL')
    }
    const timer = setTimeout(() => end({ failed: `no end after ${deadlineMs / 1000} s` }), deadlineMs)
    const onAbort = () => end({ failed: `ended by ${signal.reason}` })
    signal?.addEventListener('abort', onAbort, { once: true })
    const collect = (stream, write) => {
      const until = new Until(mark, (status) => {
        statuses.push(status)
        if (statuses.length === 2) end({ status })
      })
      stream.pipe(until).on('data', write)
      stream.on('error', () => {})
    }
    child.stdio[3].on('data', onConsole).on('error', () => {})
    collect(child.stdio[4], onStdout)
    collect(child.stdio[5], onStderr)
    child.stderr.on('data', onConsole)
    child.on('error', (error) => end({ failed: `qemu did not start: ${error.message}` }))
    child.on('close', (code, killedBy) => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
      resolve(ended ?? { failed: `the machine stopped by itself (${code ?? killedBy}): a kernel panic, or qemu could not run` })
    })
  })
}
