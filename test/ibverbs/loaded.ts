import type { StreamOptions } from '#dist/src/index.js'
import { type Netns, waitForOutput } from '../support/netns.js'
import type { Nic } from '../support/nic.js'
import { programArgv } from '../support/program.js'
import type { End, Report } from './loaded.program.js'

export const TO = '10.77.0.2:7148'

export interface Ended {
  code: number | null
  signal: NodeJS.Signals | null
  stderr: string
  /** The JSON that the program printed at the end, if it did. */
  told: Report | undefined
}

/** Starts loaded.program.ts. `finish` lets it end, and waits for that. */
export async function startLoaded(ns: Netns, nic: Nic, options: Partial<StreamOptions>, end: End) {
  const all = { to: TO, packetSizeBytes: 1048, backend: 'ibverbs', ...options }
  const argv = [...nic.prefix, ...programArgv('ibverbs/loaded', all, end)]
  const child = ns.spawn('a', argv, { stdio: ['pipe', 'pipe', 'pipe'] })
  let stdout = ''
  let stderr = ''
  child.stdout!.on('data', (text) => {
    stdout += text
  })
  child.stderr!.on('data', (text) => {
    stderr += text
  })
  child.stdin!.on('error', () => {})
  const closed = new Promise<Ended>((resolve) =>
    child.once('close', (code, signal) => {
      const last = stdout.trim().split('\n').at(-1)!
      resolve({ code, signal, stderr, told: last.startsWith('{') ? JSON.parse(last) : undefined })
    }),
  )
  await waitForOutput(child, /loaded/)
  return {
    child,
    finish: (): Promise<Ended> => {
      child.stdin!.write('end\n')
      return closed
    },
    closed,
  }
}
