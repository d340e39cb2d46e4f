#!/usr/bin/env node
// Checks that need hardware. Run this on a host with a ConnectX card, and attach the report to an issue.
//   npm run acceptance -- --interface eth2 --to 239.10.0.1:7148 --second-host user@peer --second-interface eth2
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { STEPS } from './acceptance/steps.mjs'
import { describeMachine } from './bench/machine.mjs'

const USAGE = `usage: npm run acceptance -- --interface NAME --to GROUP:PORT [options]

Sends to an IPv4 multicast group that must be yours to use. Needs the rights of backend ibverbs (CAP_NET_RAW, lockable memory).

  --interface NAME          the card's interface
  --to GROUP:PORT           an IPv4 multicast group, as 239.10.0.1:7148
  --second-host USER@HOST   a host that hears the group: captures there by ssh and tcpdump. A switch that snoops IGMP sends the group to
                            those who joined: run speadcast recv GROUP:PORT --stops 0 there meanwhile
  --second-interface NAME   its interface (default eth0)
  --capture-command CMD     instead of ssh: writes a pcap file to standard output; gets $COUNT, $SECONDS and $FILTER
  --by-hand                 instead of ssh: prints what to run there, and asks for the file
  --disturb                 also take the interface down and up again
  --rates LIST              rates to keep, as 500Mbps,10Gbps (default 1Gbps,10Gbps,40Gbps)
  --seconds N               length of each measurement (default 3)
  --only LIST               of ${STEPS.map(({ name }) => name).join(', ')}
  --library PATH            libibverbs (default: $SPEADCAST_VERBS_LIBRARY, then libibverbs.so.1)
  --out FOLDER              for report.md and report.json (default speadcast-acceptance)

Exit status: 0 no step failed; 1 one did; 2 bad usage. Steps that could not be done say why and are not counted as passed.
`

function refuse(message) {
  process.stderr.write(`acceptance: ${message}\n\n${USAGE}`)
  process.exit(2)
}

function optionsOf(args) {
  const text = (otherwise) => ({ type: 'string', ...(otherwise !== undefined && { default: otherwise }) })
  const flag = { type: 'boolean', default: false }
  try {
    return parseArgs({
      args,
      options: {
        interface: text(),
        to: text(),
        'second-host': text(),
        'second-interface': text('eth0'),
        'capture-command': text(),
        'by-hand': flag,
        disturb: flag,
        rates: text('1Gbps,10Gbps,40Gbps'),
        seconds: text('3'),
        only: text(),
        library: text(),
        out: text('speadcast-acceptance'),
        help: flag,
      },
    }).values
  } catch (error) {
    return refuse(error.message)
  }
}

const options = optionsOf(process.argv.slice(2))
if (options.help) {
  process.stdout.write(USAGE)
  process.exit(0)
}
if (!options.interface || !options.to) refuse('--interface and --to are needed')
if (!/^2(2[4-9]|3\d)(\.\d{1,3}){3}:\d+$/.test(options.to)) refuse(`--to ${options.to} is no IPv4 multicast group with a port`)
if (!(Number(options.seconds) > 0)) refuse(`--seconds ${options.seconds} is no number of seconds`)
const only = options.only?.split(',')
const unknown = only?.find((name) => !STEPS.some((step) => step.name === name))
if (unknown !== undefined) refuse(`--only ${unknown}: no such step`)

const ctx = { options: { ...options, seconds: Number(options.seconds) } }
const machine = await describeMachine()
const steps = []
for (const { name, about, needsDevice, run } of STEPS) {
  // The other steps use what this one finds.
  if (only && name !== 'device' && !only.includes(name)) continue
  process.stderr.write(`${name}: ${about} …\n`)
  let step
  if (needsDevice && !ctx.device) step = { result: 'not done', found: 'there is no device to send by' }
  else step = await Promise.resolve(run(ctx)).catch((error) => ({ result: 'failed', found: error.message, stack: error.stack }))
  steps.push({ name, about, ...step })
  process.stderr.write(`  ${step.result}: ${step.found}\n`)
}

const row = ({ name, about, result, found }) =>
  `| ${name} | ${about} | ${result} | ${found.replaceAll('|', '\\|').replaceAll('\n', ' ')} |`
const markdown = `# speadcast acceptance report

${machine.date}, commit ${machine.commit || 'unknown'}${machine.dirty ? ' with changes' : ''}, ${machine.cpu}, ${machine.kernel}, node ${machine.node}

| step | | result | found |
|---|---|---|---|
${steps.map(row).join('\n')}

All figures are in report.json.
`
mkdirSync(options.out, { recursive: true })
writeFileSync(join(options.out, 'report.json'), `${JSON.stringify({ machine, options, steps }, undefined, 2)}\n`)
writeFileSync(join(options.out, 'report.md'), markdown)
const count = (result) => steps.filter((step) => step.result === result).length
console.log(markdown)
console.log(
  `${['passed', 'measured', 'failed', 'not done'].map((result) => `${count(result)} ${result}`).join(', ')}; ${options.out}/report.md`,
)
process.exitCode = count('failed') > 0 ? 1 : 0
