// npm run bench -- --verbs: CPU per packet of posting through the verbs ABI, on the software NIC of test/softnic, which delivers nothing.
// docs/bench/README.md says what is compared.
import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { $ } from 'zx'
import { at } from '../lib/process.mjs'
import { watchLoad } from './machine.mjs'
import { openNamespace } from './namespace.mjs'
import { peerPython } from './programs.mjs'

/** Of SOFTNIC_MODE: work requests cost nothing; a fixed time; the copying of their memory. */
const MODES = ['null', 'model', 'copy']
const MODEL_NANOSECONDS = '30'
const CHAINS = [1, 16, 64, 256]
/** spead2 is so slow that short chains of it would take minutes. */
const SPEAD2_CHAINS = CHAINS.slice(2)
const GROUP = '239.99.0.2:7148'
const ADDRESS = '10.99.0.1'
const HEAP_BYTES = 8192
/** Copying 8 KiB takes some twenty times as long as posting them. */
const SHARE_OF_PACKETS = { null: 1, model: 1, copy: 1 / 8 }

const rowsOf = (text) =>
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
    runOn: (mode, command) => namespace.run(command.map(String), { ...environment, SOFTNIC_MODE: mode }),
    /** Rows of verbs-ours.mjs; `segments`: 'one' or 'two' SGEs a packet. */
    async ours(mode, packets, segments, chains) {
      const script = at('scripts/bench/verbs-ours.mjs')
      return rowsOf(await this.runOn(mode, [process.execPath, script, 'v0', GROUP, packets, segments, ...chains]))
    },
  }
}

/** name → runs it in a mode, all chains; its rows. */
async function programsOn(nic) {
  const floor = at('.cache/bench/verbs_floor')
  await $`gcc -O3 -march=native -o ${floor} ${at('scripts/bench/verbs_floor.c')} -libverbs`
  const run = nic.runOn
  const each = async (chains, one) => {
    const rows = []
    for (const chain of chains) rows.push(await one(chain))
    return rows
  }
  const ours = (segments) => (mode, packets) => nic.ours(mode, packets, segments, CHAINS)
  const spead2 = [peerPython(), at('scripts/bench/verbs_spead2.py'), ADDRESS, GROUP]
  const mac = JSON.parse((await nic.ip('-j', 'link', 'show', 'v0')).stdout)[0].address
  const programs = {
    floor: async (mode, packets) => rowsOf(await run(mode, [floor, 'softnic0', packets, ...CHAINS])),
    'ours-two': ours('two'),
    'ours-one': ours('one'),
    spead2: (mode, packets) => each(SPEAD2_CHAINS, async (chain) => rowsOf(await run(mode, [...spead2, packets / 10, chain]))[0]),
  }
  if (spawnSync('raw_ethernet_bw', ['--version']).error) return programs
  programs.raw_ethernet_bw = (mode, packets) =>
    each(CHAINS, async (chain) => {
      const frames = Math.ceil((packets * 2) / 1024) * 1024
      const shape = `-s ${HEAP_BYTES} -m 9000 -n ${frames} -l ${chain} -t ${Math.max(256, chain * 2)}`.split(' ')
      const addresses = ['-B', mac, '-E', '01:00:5e:63:00:02', '-j', ADDRESS, '-J', '239.99.0.2', '-k', '7000', '-K', '7148']
      const text = await run(mode, ['raw_ethernet_bw', '--client', '-d', 'softnic0', ...addresses, ...shape])
      // #bytes #iterations BW-peak BW-average MsgRate[Mpps]; it polls without a pause, so time is CPU time.
      const rate = Number(/^ *8192\s+\d+\s+\S+\s+\S+\s+(\S+)/m.exec(text)[1])
      return { program: 'raw_ethernet_bw', chain, nanosecondsPerPacket: 1000 / rate }
    })
  return programs
}

/** Adds to `out` what its modes lack of `repeats` rounds; returns how many rounds are left, for want of time. */
export async function measureVerbs(nic, options, out, log) {
  const { repeats, packets, stopAfterSeconds, maxDisturbance, repeatsOfDisturbed } = options
  const end = performance.now() + stopAfterSeconds * 1000
  const programs = await programsOn(nic)
  if (!programs.raw_ethernet_bw) log('raw_ethernet_bw is missing (apt-get install perftest): left out')
  let left = 0
  for (const mode of MODES) {
    const before = out.rows.filter((row) => row.kind === 'verbs' && row.mode === mode).map((row) => row.round)
    for (let round = Math.max(-1, ...before) + 1; round < repeats; round++) {
      if (performance.now() >= end) {
        left += repeats - round
        break
      }
      for (let attempt = 0; attempt <= repeatsOfDisturbed; attempt++) {
        const load = watchLoad()
        const rows = []
        for (const program of Object.values(programs)) rows.push(...(await program(mode, packets * SHARE_OF_PACKETS[mode])))
        const shares = load()
        const disturbed = shares.stealShare + shares.otherShare > maxDisturbance
        for (const row of rows) out.add({ kind: 'verbs', mode, round, attempt, ...row, ...shares, disturbed })
        log(`software NIC, ${mode}, round ${round + 1} of ${repeats}${disturbed ? ' (disturbed)' : ''}`)
        if (!disturbed) break
      }
    }
  }
  return left
}
