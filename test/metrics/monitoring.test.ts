// The page, the alerts and the dashboard, against the table and what promtool of Debian's prometheus says of them.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { METRICS, metrics } from 'speadcast/metrics'
import { describe, expect, test } from 'vitest'
import { ROOT } from '../project/support.js'
import { temporaryFolder } from '../support/cli.js'
import { page } from '../support/documents.js'
import { promtool } from './support.js'

const FOLDER = join(ROOT, 'docs/monitoring')
const file = (name: string): string => join(FOLDER, name)

interface Panel {
  readonly id: number
  readonly title: string
  readonly type: string
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number }
  readonly targets?: readonly { readonly expr: string }[]
}
interface Dashboard {
  readonly title: string
  readonly panels: readonly Panel[]
  readonly templating: { readonly list: readonly { readonly name: string; readonly query: string }[] }
}
const dashboard = JSON.parse(readFileSync(file('dashboard.json'), 'utf8')) as Dashboard
const queries = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr))

/** The names of all metrics that a scrape may have, those of prom-client for the process and of histograms included. */
async function known(): Promise<Set<string>> {
  const text = await metrics([], { process: true }).metrics()
  const own = METRICS.flatMap(({ name, kind }) =>
    kind === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
  )
  return new Set([...own, ...[...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name!)])
}

const named = (expr: string): string[] => expr.match(/\b(?:speadcast|process|nodejs)_\w+/g) ?? []

test('docs/monitoring.md has every metric in its table, as the table of the code has it', () => {
  const rows = page('docs/monitoring.md')
    .text.split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) => line.slice(2, -2).split(' | '))
    .filter(([name]) => /^`(speadcast|process|nodejs)_/.test(name!))
  const from = (metric: (typeof METRICS)[number]) => `\`${metric.from}\``
  const wanted = METRICS.map((metric) => [
    `\`${metric.name}\``,
    metric.kind,
    metric.labels.join(', '),
    from(metric),
    metric.help.replaceAll('|', '\\|'),
  ])
  expect(rows).toEqual(wanted)
})

describe('alerts', () => {
  test('are rules, and fire and stay silent as their tests say', (ctx) => {
    for (const args of [
      ['check', 'rules', file('alerts.yml')],
      ['check', 'config', file('prometheus.yml')],
      ['test', 'rules', file('alerts.test.yml')],
    ]) {
      const { status, said } = promtool(ctx, args)
      expect({ status, said: status === 0 ? '' : said }).toEqual({ status: 0, said: '' })
      expect(said).toContain('SUCCESS')
    }
  })

  test('each has a test in which it fires, and names metrics that there are', async () => {
    const rules = readFileSync(file('alerts.yml'), 'utf8')
    const tests = readFileSync(file('alerts.test.yml'), 'utf8')
    const alerts = [...rules.matchAll(/- alert: (\w+)/g)].map(([, name]) => name!)
    const fired = [...tests.matchAll(/alertname: (\w+)\n\s+exp_alerts:/g)].map(([, name]) => name!)
    expect(alerts.length).toBeGreaterThan(10)
    expect(alerts.filter((name) => !fired.includes(name))).toEqual([])
    const told = [...page('docs/monitoring.md').text.matchAll(/^\| `(Speadcast\w+)` \|/gm)].map(([, name]) => name!)
    expect(told).toEqual(alerts)
    const names = await known()
    expect([...new Set([...named(rules), ...named(tests)])].filter((name) => !names.has(name))).toEqual([])
  })
})

describe('the dashboard', () => {
  test('asks for metrics that there are, in expressions that Prometheus parses', async (ctx) => {
    const names = await known()
    const all = [...queries, ...dashboard.templating.list.map(({ query }) => query)]
    expect(queries.length).toBeGreaterThan(30)
    expect(all.flatMap(named).filter((name) => !names.has(name))).toEqual([])
    const variables = new Set(['__rate_interval', ...dashboard.templating.list.map(({ name }) => name)])
    expect(
      all.flatMap((expr) => [...expr.matchAll(/\$(\w+)/g)].map(([, name]) => name!)).filter((name) => !variables.has(name)),
    ).toEqual([])
    // Recording rules take any expression.
    const rules = queries.map((expr, i) => ({
      record: `panel:${i}`,
      expr: expr.replaceAll('$__rate_interval', '5m').replaceAll(/\$(job|instance|stream|receiver)/g, '.*'),
    }))
    const path = join(temporaryFolder(), 'rules.yml')
    // JSON is YAML.
    writeFileSync(path, JSON.stringify({ groups: [{ name: 'dashboard', rules }] }))
    const { status, said } = promtool(ctx, ['check', 'rules', path])
    expect({ status, said: status === 0 ? '' : said }).toEqual({ status: 0, said: '' })
  })

  test('has panels beside one another', () => {
    const { panels } = dashboard
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length)
    const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, i) => `${x + (i % w)},${y + Math.floor(i / w)}`),
    )
    expect(new Set(cells).size).toBe(cells.length)
    expect(Math.max(...panels.map(({ gridPos: { x, w } }) => x + w))).toBe(24)
  })
})
