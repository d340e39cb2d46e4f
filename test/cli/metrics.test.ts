// `--metrics` of the commands that run for long, scraped while they do.
import { describe, expect, test } from 'vitest'
import { parse, sampleOf, until } from '../metrics/support.js'
import { freePort, type Run, run, start } from '../support/cli.js'

const AT = /metrics at (http:\/\/\S+)\/metrics/

async function scrape(url: string): Promise<string> {
  return (await fetch(`${url}/metrics`)).text()
}

const ended = ({ code, signal }: Run) => ({ code, signal })

describe('--metrics', () => {
  test('shows a sender and a receiver while they run, and ends with them', async () => {
    const to = `127.0.0.1:${await freePort()}`
    const receiver = start(['recv', to, '--verify', '--timeout', '30', '--metrics', '127.0.0.1:0'])
    const [, receiving] = await receiver.saw(AT)
    await receiver.saw(/listening on/)
    expect((await fetch(`${receiving}/readyz`)).status).toBe(200)
    const sender = start(['send', to, '--forever', '-H', '8KiB', '--rate', '5MB/s', '--metrics', '[::1]:0'])
    const [, sending] = await sender.saw(AT)
    expect(sending).toMatch(/^http:\/\/\[::1\]:\d+$/)
    await until(async () => (sampleOf(await scrape(sending!), 'speadcast_heaps_sent_total', { stream: 'send' }) ?? 0) > 50)
    await until(async () => (sampleOf(await scrape(receiving!), 'speadcast_receiver_heaps_total', { receiver: 'recv' }) ?? 0) > 50)
    expect((await fetch(`${sending}/readyz?moved=5`)).status).toBe(200)
    const text = await scrape(sending!)
    expect(sampleOf(text, 'speadcast_rate_limit_bytes_per_second')).toBe(5e6)
    expect(sampleOf(text, 'process_resident_memory_bytes')).toBeGreaterThan(1e7)
    sender.child.kill('SIGINT')
    expect(ended(await sender.done)).toEqual({ code: 0, signal: null })
    expect(ended(await receiver.done)).toEqual({ code: 0, signal: null })
    await expect(scrape(sending!)).rejects.toThrow()
  })

  test('tells the sizes of a sweep apart, one at a time', async () => {
    const bench = start([
      ...['bench', '10.0.0.5:7148', '--backend', 'memory', '--sizes', '1KiB,2KiB', '--seconds', '1', '--warmup-seconds', '0'],
      ...['--rate', '10MB/s', '--metrics', '127.0.0.1:0'],
    ])
    const [, url] = await bench.saw(AT)
    const seen = new Set<string>()
    await until(async () => {
      const open = parse(await scrape(url!).catch(() => '')).filter(({ name }) => name === 'speadcast_stream_open')
      expect(open.length).toBeLessThan(2)
      for (const { labels } of open) seen.add(labels.heap_size_bytes!)
      return seen.size === 2
    })
    expect([...seen]).toEqual(['1024', '2048'])
    expect(ended(await bench.done)).toEqual({ code: 0, signal: null })
  })

  test('goes to the events of a JSON stream, and not to standard output', async () => {
    const { code, stdout, stderr } = await run([
      ...['send', '10.0.0.5:7148', '--backend', 'memory', '-n', '5', '--json-stream', '--metrics', ':0'],
    ])
    const lines = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect([code, lines.map(({ kind }) => kind)]).toEqual([0, ['start', 'event', 'interval', 'end']])
    expect(lines[1].message).toMatch(AT)
    expect(stderr).toMatch(AT)
  })

  test('on a port that another has ends the command before anything is sent', async () => {
    const args = ['send', '10.0.0.5:7148', '--backend', 'memory', '--metrics']
    const first = start([...args, '127.0.0.1:0', '--forever', '--rate', '1MB/s'])
    const [, url] = await first.saw(AT)
    const port = `127.0.0.1:${new URL(url!).port}`
    for (const command of [
      args,
      ['recv', '127.0.0.1:0', '--metrics'],
      ['bench', '10.0.0.5:7148', '--backend', 'memory', '--metrics'],
    ]) {
      const { code, stdout, stderr } = await run([...command, port])
      expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
      expect(stderr).toMatch(/--metrics: listen EADDRINUSE.*another program has the port: choose another, or 0 for a free one/)
    }
  })

  test.for(['9400', 'host', ':', ':65536', '[::1', '::1:9400', '[10.0.0.5]:9400', 'http://x:1', ''])(
    '%o is bad usage',
    async (text) => {
      const { code, stderr } = await run(['recv', '127.0.0.1:0', '--metrics', text])
      expect(code).toBe(2)
      expect(stderr).toContain('It must be HOST:PORT, or :PORT for all addresses, such as 127.0.0.1:9400, :9400 or [::1]:9400.')
    },
  )
})
