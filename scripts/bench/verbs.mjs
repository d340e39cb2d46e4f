// npm run bench -- --verbs: CPU per packet of posting through the verbs ABI, on the software NIC of test/softnic, which delivers nothing.
// docs/bench/README.md says what is compared.
import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { $ } from 'zx'
import { at } from '../lib/process.mjs'
import { describeMachine } from './machine.mjs'
import { peerPython } from './programs.mjs'
import { table } from './report.mjs'

const CHAINS = [1, 16, 64, 256]
const GROUP = '239.99.0.2:7148'
const ADDRESS = '10.99.0.1'
/** [most of ours over the floor, from which chain length]; ours at most this share of spead2's. */
const MOST_OF_FLOOR = 1.6
const FROM_CHAIN = 64
const MOST_OF_SPEAD2 = 1 / 6

async function openNic() {
  const name = `speadcast-bench-${process.pid}`
  const close = () => $.sync({ nothrow: true, quiet: true })`ip netns del ${name}`
  await $({ quiet: true })`ip netns add ${name}`
  process.once('exit', close)
  const ip = (...args) => $({ quiet: true })`ip -n ${name} ${args}`
  await ip('link', 'set', 'lo', 'up')
  await ip('link', 'add', 'v0', 'mtu', 9100, 'type', 'veth', 'peer', 'name', 'v1')
  for (const end of ['v0', 'v1']) await ip('link', 'set', end, 'up')
  await ip('addr', 'add', `${ADDRESS}/24`, 'dev', 'v0')
  await ip('route', 'add', '224.0.0.0/4', 'dev', 'v0')
  return { name, close }
}

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1]

/** @param add takes a row to record */
export async function measureVerbs({ repeats, packets }, add) {
  const nic = at('.cache/bench/softnic')
  mkdirSync(nic, { recursive: true })
  await $({ quiet: true })`make -s -C ${at('test/softnic')} OUT=${nic}`
  const floor = at('.cache/bench/verbs_floor')
  await $`gcc -O3 -march=native -o ${floor} ${at('scripts/bench/verbs_floor.c')} -libverbs`
  const { name, close } = await openNic()
  /** Runs a program on the software NIC; its rows, or what it printed. */
  const run = async (mode, command) => {
    const env = { ...process.env, LD_LIBRARY_PATH: nic, SOFTNIC_MODE: mode, SOFTNIC_MODEL_NS: '30', SOFTNIC_NETDEVS: 'v0' }
    const { stdout } = await $({ quiet: true, env })`ip netns exec ${name} ${command}`
    return stdout
  }
  const rowsOf = (text) =>
    text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
  const chains = CHAINS.map(String)
  const programs = {
    floor: async (mode) => rowsOf(await run(mode, [floor, 'softnic0', packets, ...chains])),
    'ours-two': async (mode) =>
      rowsOf(await run(mode, [process.execPath, at('scripts/bench/verbs-ours.mjs'), 'v0', GROUP, packets, 'two', ...chains])),
    'ours-one': async (mode) =>
      rowsOf(await run(mode, [process.execPath, at('scripts/bench/verbs-ours.mjs'), 'v0', GROUP, packets, 'one', ...chains])),
    spead2: async (mode) => {
      const rows = []
      for (const chain of CHAINS.slice(2))
        rows.push(
          ...rowsOf(await run(mode, [peerPython(), at('scripts/bench/verbs_spead2.py'), ADDRESS, GROUP, packets / 10, chain])),
        )
      return rows
    },
  }
  const mac = (await $({ quiet: true })`ip netns exec ${name} cat /sys/class/net/v0/address`).stdout.trim()
  const perftest = async (mode, chain) => {
    const frames = Math.ceil((packets * 2) / 1024) * 1024
    const shape = `-s 8192 -m 9000 -n ${frames} -l ${chain} -t ${Math.max(256, chain * 2)}`.split(' ')
    const addresses = ['-B', mac, '-E', '01:00:5e:63:00:02', '-j', ADDRESS, '-J', '239.99.0.2', '-k', '7000', '-K', '7148']
    const text = await run(mode, ['raw_ethernet_bw', '--client', '-d', 'softnic0', ...addresses, ...shape])
    // #bytes #iterations BW-peak BW-average MsgRate[Mpps]; it polls without a pause, so time is CPU time.
    const rate = Number(/^ *8192\s+\d+\s+\S+\s+\S+\s+(\S+)/m.exec(text)[1])
    return { program: 'raw_ethernet_bw', chain, nanosecondsPerPacket: 1000 / rate }
  }
  if (spawnSync('raw_ethernet_bw', ['--version']).error)
    console.log('raw_ethernet_bw is missing (apt-get install perftest): left out')
  else
    programs.raw_ethernet_bw = async (mode) => {
      const rows = []
      for (const chain of CHAINS) rows.push(await perftest(mode, chain))
      return rows
    }
  try {
    add(await describeMachine())
    const all = []
    for (const mode of ['null', 'model'])
      for (let round = 0; round < repeats; round++)
        for (const program of Object.keys(programs))
          for (const row of await programs[program](mode)) {
            const full = { kind: 'verbs', mode, round, ...row }
            all.push(full)
            add(full)
          }
    for (const mode of ['null', 'model'])
      report(
        mode,
        all.filter((row) => row.mode === mode),
      )
  } finally {
    close()
  }
}

function report(mode, rows) {
  const of = (program, chain) => rows.filter((row) => row.program === program && row.chain === chain)
  const cost = (program, chain) => median(of(program, chain).map((row) => row.nanosecondsPerPacket))
  /** Median of the ratios within a round. */
  const ratio = (a, b, chain) => {
    const others = of(b, chain)
    return median(of(a, chain).map((row, i) => row.nanosecondsPerPacket / others[i].nanosecondsPerPacket))
  }
  const lines = CHAINS.map((chain) => {
    const peer = of('spead2', chain).length > 0
    return [
      String(chain),
      cost('floor', chain).toFixed(1),
      cost('ours-two', chain).toFixed(1),
      cost('ours-one', chain).toFixed(1),
      peer ? cost('spead2', chain).toFixed(0) : '',
      of('raw_ethernet_bw', chain).length > 0 ? cost('raw_ethernet_bw', chain).toFixed(1) : '',
      ratio('ours-two', 'floor', chain).toFixed(2),
      peer ? `1/${(1 / ratio('ours-two', 'spead2', chain)).toFixed(1)}` : '',
    ]
  })
  console.log(`\nsoftware NIC, ${mode}: ns of CPU per packet, our side of the verbs ABI`)
  console.log(
    table(['chain', 'C floor', 'ours, 2 SGEs', 'ours, 1 SGE', 'spead2', 'raw_ethernet_bw', 'ours/floor', 'ours/spead2'], lines),
  )
  for (const chain of CHAINS.filter((n) => n >= FROM_CHAIN)) {
    const overFloor = ratio('ours-two', 'floor', chain)
    console.log(
      `chain ${chain}, ours/floor (≤ ${MOST_OF_FLOOR}): ${overFloor.toFixed(2)} ${overFloor <= MOST_OF_FLOOR ? 'met' : 'MISSED'}`,
    )
    const overPeer = ratio('ours-two', 'spead2', chain)
    if (mode === 'null')
      console.log(
        `chain ${chain}, ours/spead2 (≤ 1/6): 1/${(1 / overPeer).toFixed(1)} ${overPeer <= MOST_OF_SPEAD2 ? 'met' : 'MISSED'}`,
      )
  }
}
