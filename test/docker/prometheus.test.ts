// A Prometheus of Debian's package beside a sender and a receiver: it scrapes both, its rules load, and no alert fires.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { need } from '../support/need.js'
import { Container, docker, HOST_IMAGE, IMAGE, Network, needDocker, ok, RECEIVER, ROOT, sleep } from './support.js'

const SENDER = 10
const SINK = 11
const PROMETHEUS = 12

const config = (targets: readonly string[]) =>
  JSON.stringify({
    global: { scrape_interval: '500ms', scrape_timeout: '500ms', evaluation_interval: '500ms' },
    rule_files: ['/alerts.yml'],
    scrape_configs: [{ job_name: 'speadcast', static_configs: [{ targets }] }],
  })

interface Answer {
  readonly data: {
    readonly result: readonly { readonly metric: Readonly<Record<string, string>>; readonly value: readonly [number, string] }[]
    readonly activeTargets: readonly { readonly health: string; readonly lastError: string }[]
    readonly groups: readonly {
      readonly rules: readonly { readonly name: string; readonly health: string; readonly state: string }[]
    }[]
  }
}

test('Prometheus scrapes a sender and a receiver in containers', async (ctx) => {
  needDocker(ctx)
  const binary = spawnSync('sh', ['-c', 'command -v prometheus'], { encoding: 'utf8' }).stdout.trim()
  need(ctx, binary !== '', 'prometheus is not installed (package prometheus)')
  await using network = await Network.make({ x: 61, mtu: 1500 })
  const to = `${network.v4(SINK)}:7148`
  await using sink = await Container.listening(
    [...network.at(SINK), ...RECEIVER],
    IMAGE,
    ...['recv', to, '--verify', '--stops', '0', '--metrics', ':9400'],
  )
  await using sender = await Container.start(
    network.at(SENDER),
    IMAGE,
    ...['send', to, '--forever', '-H', '8KiB', '--rate', '4MB/s', '--metrics', ':9400'],
  )
  const name = `${sender.name}-prometheus`
  onTestFinished(() => void docker('rm', '-f', '-v', name))
  await ok(
    ...['create', '--name', name, '--no-healthcheck', ...network.at(PROMETHEUS), HOST_IMAGE],
    ...['/prometheus', '--config.file=/prometheus.yml', '--storage.tsdb.path=/data'],
  )
  await ok('cp', binary, `${name}:/prometheus`)
  await ok('cp', join(ROOT, 'docs/monitoring/alerts.yml'), `${name}:/alerts.yml`)
  const file = `${name}:/prometheus.yml`
  await copyText(config([SENDER, SINK].map((host) => `${network.v4(host)}:9400`)), file)
  await ok('start', name)

  /** Asks Prometheus from a container beside it, because the engine's networks may be out of this host's reach. */
  const ask = async (path: string): Promise<Answer | undefined> => {
    const url = `http://${network.v4(PROMETHEUS)}:9090/api/v1/${path}`
    const program = `fetch(${JSON.stringify(url)}).then((answer) => answer.text()).then(console.log)`
    const { code, stdout } = await docker('exec', sender.name, 'node', '-e', program)
    return code === 0 ? JSON.parse(stdout) : undefined
  }
  const query = async (expr: string) => (await ask(`query?query=${encodeURIComponent(expr)}`))?.data.result ?? []
  const numbers = async (expr: string) => (await query(expr)).map(({ value }) => Number(value[1]))

  // A rate is made of two scrapes at least.
  const scrapes = async () => (await numbers('min(count_over_time(up[1m]))'))[0] ?? 0
  for (let tries = 0; (await scrapes()) < 4; tries++) {
    if (tries === 60) throw new Error(`Prometheus scraped nothing: ${JSON.stringify(await docker('logs', name))}`)
    await sleep(250)
  }
  const targets = (await ask('targets'))!.data.activeTargets
  expect(targets.map(({ health, lastError }) => ({ health, lastError }))).toEqual([
    { health: 'up', lastError: '' },
    { health: 'up', lastError: '' },
  ])
  const sent = await query('speadcast_heaps_sent_total')
  expect(sent.map(({ metric }) => [metric.stream, metric.backend, metric.instance])).toEqual([
    ['send', 'udp', `${network.v4(SENDER)}:9400`],
  ])
  const [bytes] = await numbers('irate(speadcast_udp_bytes_total[1m])')
  expect(bytes).toBeGreaterThan(1e6)
  expect(bytes).toBeLessThan(8e6)
  expect((await numbers('speadcast_receiver_heaps_total{receiver="recv"}'))[0]).toBeGreaterThan(100)
  expect(await numbers('speadcast_heaps_failed_total + speadcast_heaps_suspect_total')).toEqual([0])
  expect((await numbers('histogram_quantile(0.5, rate(speadcast_batch_latency_seconds_bucket[1m]))'))[0]).toBeGreaterThan(0)

  const rules = (await ask('rules'))!.data.groups.flatMap((group) => group.rules)
  expect(rules.length).toBeGreaterThan(10)
  expect(rules.filter(({ health }) => health !== 'ok')).toEqual([])
  expect(rules.filter(({ state }) => state === 'firing').map((rule) => rule.name)).toEqual([])
  expect(
    await docker(
      'exec',
      sink.name,
      'node',
      '-e',
      `fetch('http://127.0.0.1:9400/readyz').then(({ status }) => console.log(status))`,
    ),
  ).toMatchObject({ stdout: '200\n' })
})

/** Writes a text as a file of a container. */
async function copyText(text: string, to: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'speadcast-prometheus-'))
  try {
    writeFileSync(join(folder, 'file'), text, { mode: 0o644 })
    await ok('cp', join(folder, 'file'), to)
  } finally {
    rmSync(folder, { recursive: true })
  }
}
