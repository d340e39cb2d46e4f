/** `speadcast devices` lists the RDMA devices of this machine. */

import { Command } from 'commander'
import { listRdmaDevices, type RdmaDeviceReport, type RdmaPortReport } from '../devices/index.js'
import { counted } from '../errors.js'
import { complain } from './common/exit.js'
import { footer } from './common/help.js'
import { printJson, say } from './common/print.js'
import { bitsPerSecond, table } from './common/table.js'

interface DevicesFlags {
  readonly verbsLibrary?: string
  readonly json?: true
}

export function devicesCommand(): Command {
  return new Command('devices')
    .description('list RDMA devices and what each can do for sending (backends ibverbs and rdma-ud)')
    .option('--verbs-library <PATH>', 'name or path of libibverbs (default: $SPEADCAST_VERBS_LIBRARY, then libibverbs.so.1)')
    .option('--json', 'one JSON object on standard output, everything else on standard error')
    .addHelpText(
      'after',
      footer(`
Opens each device for a moment and tries to make raw packet (ibverbs) and datagram (rdma-ud) queue pairs, with the rights of whoever runs it; sends nothing.

Exit status: 0 devices were listed, even if there are none; 1 there are devices, or --verbs-library is given, and libibverbs is not there or
cannot be used; 2 bad usage.

JSON: devices: [{ name, firmware, vendorId, partId, numaNode (-1: unknown), rawPackets, refused (why not), datagrams,
datagramsRefused (why not), checksumOffload,
pacing { minBytesPerSecond, maxBytesPerSecond } (of frames), maxSges, maxQueueDepth,
ports: [{ port, linkLayer, active, gigabitsPerSecond, mtuBytes, datagramBytes, interfaces, gids }] }]

Examples:
  speadcast devices
  speadcast devices --json | jq '.devices[] | select(.rawPackets) | .ports[].interfaces[]'`),
    )
    .action(run)
}

function run({ verbsLibrary, json }: DevicesFlags): void {
  try {
    const devices = listRdmaDevices(verbsLibrary === undefined ? {} : { library: verbsLibrary })
    if (json) printJson({ devices })
    else process.stdout.write(devices.map(describe).join('\n'))
    if (devices.length === 0) say('speadcast devices: this machine has no RDMA devices; backends udp and dgram need none')
  } catch (error) {
    complain('devices', error)
  }
}

function describe(device: RdmaDeviceReport): string {
  const { pacing } = device
  const paced = pacing && `${bitsPerSecond(pacing.minBytesPerSecond)} to ${bitsPerSecond(pacing.maxBytesPerSecond)}`
  return table([
    [device.name, `firmware ${device.firmware || 'unknown'}${device.numaNode < 0 ? '' : `, NUMA node ${device.numaNode}`}`],
    ['  raw packets', device.rawPackets ? 'yes' : `no: ${device.refused}`],
    ['  datagrams', device.datagrams ? 'yes' : `no: ${device.datagramsRefused}`],
    ['  checksums', device.checksumOffload ? 'filled by the device' : 'not filled by the device'],
    ['  hardware pacing', paced ?? 'none'],
    ['  queue depth', `at most ${device.maxQueueDepth}, ${counted(device.maxSges, 'segment')} a packet`],
    ...device.ports.flatMap(describePort),
  ])
}

function describePort(port: RdmaPortReport): [string, string][] {
  const { gigabitsPerSecond: speed, mtuBytes, interfaces } = port
  const facts = [
    port.linkLayer,
    port.active ? 'active' : 'down',
    ...(speed > 0 ? [`${speed} Gb/s`] : []),
    ...(mtuBytes > 0 ? [`MTU ${mtuBytes}`] : []),
    `datagrams of ${port.datagramBytes} bytes`,
    interfaces.length > 0 ? `interface ${interfaces.join(', ')}` : 'no interface',
  ]
  return [
    [`  port ${port.port}`, facts.join(', ')],
    ...port.gids.map((gid, i): [string, string] => [i === 0 ? '    GIDs' : '', gid]),
  ]
}
