// npm run bench -- --verbs: CPU per packet of posting through the verbs ABI, on the software NIC of test/softnic, which delivers
// nothing. docs/bench/README.md says what is compared.
import { spawnSync } from 'node:child_process'
import { $ } from 'zx'
import { at } from '../lib/process.mjs'
import { watchLoad } from './machine.mjs'
import { ADDRESS, GROUP, rowsOf } from './nic.mjs'
import { peerPython } from './programs.mjs'

/** Values of SOFTNIC_MODE: work requests cost nothing; a fixed time; the copying of their memory. */
const MODES = ['null', 'model', 'copy']
const CHAINS = [1, 16, 64, 256]
/** spead2 is so slow that short chains of it would take minutes. */
const SPEAD2_CHAINS = CHAINS.slice(2)
const HEAP_BYTES = 8192
/** Copying 8 KiB takes some twenty times as long as posting them. */
const SHARE_OF_PACKETS = { null: 1, model: 1, copy: 1 / 8 }

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

/** Adds to `out` the rounds that its modes lack of `repeats`. Returns how many there was no time for. */
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
