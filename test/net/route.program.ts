/** Asks for paths and neighbours in its network namespace: QUESTION ARGUMENTS…. Prints the answer. */
import { execFileSync } from 'node:child_process'
import type { NativeError } from '#dist/ffi/native-error.js'
import type { SpeadcastError } from '#dist/src/errors.js'
import { parseEndpoints, resolveEndpoints } from '#dist/src/net/endpoint.js'
import { resolveInterface } from '#dist/src/net/interface.js'
import { kickNeighbour, neighbourState, type Path, pathTo, waitForNeighbours } from '#dist/src/net/route.js'
import { print } from '../support/print.js'

const ip = (...args: string[]) => execFileSync('ip', args, { encoding: 'utf8' })

async function path(text: string, interfaceName?: string): Promise<Path> {
  const [to] = await resolveEndpoints(parseEndpoints([text]))
  return pathTo(to!, interfaceName === undefined ? undefined : resolveInterface(interfaceName, to!.family))
}

/** The path, or why there is none. */
const told = (text: string, interfaceName?: string): Promise<Path | string> =>
  path(text, interfaceName).catch(({ code, message }: SpeadcastError) => `${code}: ${message}`)

const paths = async () => ({
  link: await told('10.77.0.2:7148'),
  gateway: await told('10.200.1.1:7148'),
  via6: await told('10.201.1.1:7148'),
  link6: await told('[fd77::2]:7148'),
  gateway6: await told('[fd78::9]:7148'),
  zone: await told('[fe80::9%v0]:7148'),
  scopeByInterface: (await path('[fe80::9]:7148', 'v0')).interfaceName,
  noScope: await told('[fe80::9]:7148'),
  noScopeMulticast: await told('[ff02::9]:7148'),
  multicast: await told('239.1.2.3:7148', 'v0'),
  multicastSink: (await path('239.1.2.3:7148', 'ifb9')).interfaceName,
  multicast6: await told('[ff15::1]:7148', 'v0'),
  noMulticastRoute: await told('239.1.2.3:7148'),
  sink: await told('10.99.0.2:7148'),
  loopback: await told('127.0.0.1:7148'),
  loopback6: await told('[::1]:7148'),
  self: await told('10.77.0.1:7148'),
  broadcast: await told('10.77.0.255:7148'),
  none: await told('8.8.8.8:7148'),
  none6: await told('[2001:db8::1]:7148'),
  prohibit: await told('10.203.0.1:7148'),
  unreachable: await told('10.204.0.1:7148'),
})

/** An unprivileged process that loads its imports before it gives up root: uid 65534 cannot read /root. */
async function neighbours() {
  const all = [
    await path('10.77.0.2:1'),
    await path('10.200.0.1:1'),
    await path('10.77.0.3:1'),
    await path('[fd77::2]:1'),
    await path('239.1.1.1:1', 'v0'),
    await path('127.0.0.1:1'),
    await path('10.99.0.2:1'),
  ]
  const before = all.map(neighbourState)
  process.setgid!(65534)
  process.setuid!(65534)
  const outcomes = await waitForNeighbours(all, 5000)
  return { before, outcomes, after: all.map(neighbourState), uid: process.getuid!() }
}

async function silence(peerNamespace: string) {
  const [dead, dead6, alive] = [await path('10.77.0.99:1'), await path('[fd77::99]:1'), await path('10.77.0.2:1')]
  const kernelGaveUp = await waitForNeighbours([dead, alive], 20_000)
  const state = neighbourState(dead)
  const timedOut = await waitForNeighbours([dead6], 100)
  const stillAsking = neighbourState(dead6)
  ip('-n', peerNamespace, 'address', 'add', '10.77.0.99/24', 'dev', 'v1')
  const cameBack = await waitForNeighbours([dead], 20_000)
  ip('link', 'set', 'v0', 'down')
  const linkDown = await waitForNeighbours([alive, alive], 20_000)
  ip('link', 'del', 'v0')
  const gone = await waitForNeighbours([alive], 20_000).catch((error: NativeError) => error.errnoName)
  return { kernelGaveUp, state, timedOut, stillAsking, cameBack, linkDown, gone }
}

async function kick() {
  kickNeighbour(await path('10.77.0.2:7148'))
  return 'asked'
}

const QUESTIONS = { paths, neighbours, silence, kick }

export type Question = keyof typeof QUESTIONS

const [question, ...args] = process.argv.slice(2) as [Question, string]
print(await QUESTIONS[question](...args))
