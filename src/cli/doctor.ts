/** `speadcast doctor` says which backend would be taken, and why not the others. */
import { Command } from 'commander'
import { type EndpointReport, explainBackends, type HostCheck } from '../devices/index.js'
import { complain, EXIT_FAILED } from './common/exit.js'
import { footer } from './common/help.js'
import { printJson, say } from './common/print.js'
import { table } from './common/table.js'
import { packetSizeOption } from './common/transport-options.js'
import { inFlags } from './common/wording.js'

interface DoctorFlags {
  readonly interface?: string
  readonly verbsLibrary?: string
  readonly packetSize?: number
  readonly json?: true
}

export function doctorCommand(): Command {
  return new Command('doctor')
    .description('say which backend would send to an endpoint, and why not the others')
    .argument('<HOST:PORT...>', 'endpoints, as for send')
    .option('--interface <NAME|ADDRESS>', 'interface to send through (default: the route decides)')
    .option('--verbs-library <PATH>', 'name or path of libibverbs (default: $SPEADCAST_VERBS_LIBRARY, then libibverbs.so.1)')
    .addOption(packetSizeOption())
    .option('--json', 'one JSON object on standard output, everything else on standard error')
    .addHelpText(
      'after',
      footer(`
Looks for routes, devices and neighbours, and at what the host is set to, with the rights of whoever runs it; sends nothing.

Exit status: 0 there is a way to send; 1 nothing could be sent to any endpoint, or that could not be found out; 2 bad usage, such as an
endpoint that does not resolve. Warnings about the host change no exit status.

JSON: backend (what auto takes), reason, backends: [{ backend, works, reason }], sends, problem (why not), endpoints: [{ endpoint,
interface, mtuBytes, largestPacketSizeBytes (for -p; 0: unknown), problem }], warnings (as those of send),
host: [{ name, state (ok, warn, unknown), value, reason, remedy (the command that changes it) }]

Examples:
  speadcast doctor 239.10.0.1:7148 --interface eth0
  speadcast doctor 10.0.0.5:7148 --json`),
    )
    .action(run)
}

async function run(to: readonly string[], flags: DoctorFlags): Promise<void> {
  try {
    const report = await explainBackends(to, {
      ...(flags.interface !== undefined && { interface: flags.interface }),
      ...(flags.verbsLibrary !== undefined && { library: flags.verbsLibrary }),
      ...(flags.packetSize !== undefined && { packetSizeBytes: flags.packetSize }),
    })
    const rows = report.backends.map(({ backend, works, reason }) => [backend, works ? reason : `no: ${reason}`] as const)
    if (flags.json) printJson(report)
    else
      process.stdout.write(
        table([['auto takes', report.backend], ...rows, ...report.host.map(hostRowOf), ...report.endpoints.map(rowOf)]),
      )
    for (const warning of report.warnings) say(`speadcast: warning: ${inFlags(warning)} (speadcast explain SPEADCAST_INTERFACE)`)
    if (report.sends) return
    say(`speadcast doctor: nothing can be sent: ${inFlags(report.problem)}`)
    process.exitCode = EXIT_FAILED
  } catch (error) {
    complain('doctor', error)
  }
}

function hostRowOf({ name, state, value, reason, remedy }: HostCheck) {
  const told = [state === 'ok' ? value : `${state}: ${value}`, reason].filter((text) => text !== '').join('; ')
  return [name, inFlags(remedy === '' ? told : `${told}. To change it: ${remedy}`)] as const
}

function rowOf({ endpoint, interface: iface, mtuBytes, largestPacketSizeBytes: largest, problem }: EndpointReport) {
  const way = iface ? `by ${iface}, MTU ${mtuBytes}: -p up to ${largest}` : 'by an interface that nobody tells'
  return [endpoint, problem ? `${iface && `${way}; `}no: ${inFlags(problem)}` : way] as const
}
