// The software NIC of test/softnic in a network namespace: for programs that post through the verbs ABI.
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { $ } from 'zx'
import { at } from '../lib/process.mjs'
import { PORT } from './blackhole.mjs'
import { openNamespace } from './namespace.mjs'

const MODEL_NANOSECONDS = '30'
const GROUP_ADDRESS = '239.99.0.2'
export const GROUP = `${GROUP_ADDRESS}:${PORT}`
export const ADDRESS = '10.99.0.1'

export const rowsOf = (text) =>
  text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))

/** A namespace where runOn(mode, command) runs a program on the software NIC. */
export async function openNic(suffix = '') {
  const library = at('.cache/bench/softnic')
  mkdirSync(library, { recursive: true })
  await $({ quiet: true })`make -s -C ${at('test/softnic')} OUT=${library}`
  const namespace = await openNamespace(suffix)
  const { ip } = namespace
  const environment = { LD_LIBRARY_PATH: library, SOFTNIC_MODEL_NS: MODEL_NANOSECONDS, SOFTNIC_NETDEVS: 'v0' }
  try {
    await ip('link', 'add', 'v0', 'mtu', 9100, 'type', 'veth', 'peer', 'name', 'v1')
    for (const end of ['v0', 'v1']) await ip('link', 'set', end, 'up')
    await ip('addr', 'add', `${ADDRESS}/24`, 'dev', 'v0')
    await ip('route', 'add', '224.0.0.0/4', 'dev', 'v0')
  } catch (error) {
    namespace.close()
    throw error
  }
  return {
    ...namespace,
    runOn: (mode, command, env = {}) => namespace.run(command.map(String), { ...environment, SOFTNIC_MODE: mode, ...env }),
    /** Rows of verbs-ours.mjs; `segments`: 'one' or 'two' SGEs a packet. */
    async ours(mode, packets, segments, chains) {
      const script = at('scripts/bench/verbs-ours.mjs')
      return rowsOf(await this.runOn(mode, [process.execPath, script, 'v0', GROUP, packets, segments, ...chains]))
    },
  }
}

/** As a ground: whatever is posted completes at once and goes nowhere. Its counters are the NIC's own, known when a program has ended. */
export async function openNicGround() {
  const nic = await openNic()
  const folder = mkdtempSync(join(tmpdir(), 'speadcast-bench-'))
  const report = join(folder, 'report.json')
  const removeFolder = () => rmSync(folder, { recursive: true, force: true })
  process.once('exit', removeFolder)
  const total = { packets: 0, bytes: 0 }
  return {
    ...nic,
    address: GROUP_ADDRESS,
    async run(command, env) {
      rmSync(report, { force: true })
      const output = await nic.runOn('null', command, { ...env, SOFTNIC_REPORT: report })
      const { frames, bytes } = existsSync(report) ? JSON.parse(readFileSync(report, 'utf8')) : { frames: 0, bytes: 0 }
      total.packets += frames
      total.bytes += bytes
      return output
    },
    counters: async () => ({ ...total }),
    receive: async () => async () => undefined,
    close() {
      nic.close()
      removeFolder()
    },
  }
}
