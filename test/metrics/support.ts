/** A sender and a receiver on loopback, and Prometheus' text read without the code that wrote it. */
import { spawnSync } from 'node:child_process'
import { ItemGroup, openStream, type Stream, type StreamOptions } from 'speadcast'
import { openReceiver, type Receiver } from 'speadcast/receive'
import { onTestFinished, type TestContext } from 'vitest'
import { freePort } from '../support/cli.js'
import { need } from '../support/need.js'

export const ITEMS = new ItemGroup().add({ name: 'samples', dtype: 'i1', shape: [4096] })

export async function pair(options: Partial<StreamOptions> = {}): Promise<{ stream: Stream; receiver: Receiver }> {
  const port = await freePort()
  const receiver = await openReceiver({ endpoints: `127.0.0.1:${port}`, deliver: false })
  const stream = await openStream({ to: `127.0.0.1:${port}`, packetSizeBytes: 1472, ...options })
  onTestFinished(async () => {
    await stream.destroy()
    await receiver.close()
  })
  return { stream, receiver }
}

export async function sendHeaps(stream: Stream, heaps: number): Promise<void> {
  const batch = stream.createBatch({ items: ITEMS, heaps })
  await stream.send(batch)
  batch.close()
}

/** Waits until it holds, at most ten seconds. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; !(await holds()); tries++) {
    if (tries === 1000) throw new Error(`does not hold after ten seconds: ${holds}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

export interface Series {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

/** Reads the text format (Prometheus, "Exposition formats"), less timestamps. */
export function parse(text: string): Series[] {
  return text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const [, name, inside = '', value] = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line) ?? []
      if (name === undefined) throw new Error(`no sample: ${line}`)
      const labels = [...inside.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"(?:,|$)/g)].map(([, label, quoted]) => [
        label,
        quoted!.replace(/\\(.)/g, (_, escaped: string) => (escaped === 'n' ? '\n' : escaped)),
      ])
      return { name, labels: Object.fromEntries(labels), value: Number(value!.replace('Inf', 'Infinity')) }
    })
}

export const sampleOf = (text: string, name: string, labels: Readonly<Record<string, string>> = {}): number | undefined =>
  parse(text).find(
    (series) => series.name === name && Object.entries(labels).every(([label, value]) => series.labels[label] === value),
  )?.value

/** Runs promtool of Debian's package prometheus. Returns all that it says. */
export function promtool(ctx: TestContext, args: readonly string[], input = ''): { status: number | null; said: string } {
  const { status, stdout, stderr, error } = spawnSync('promtool', args, { input, encoding: 'utf8' })
  need(ctx, error === undefined, 'promtool is not installed (package prometheus)')
  return { status, said: `${stdout}${stderr}` }
}
