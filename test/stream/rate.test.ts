/** Rates as texts: every way to write one that is understood, and what is said of the others. */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openStream, parseRate, SpeadcastError } from 'speadcast'
import { expect, test } from 'vitest'
import { CLI, temporaryFolder } from '../support/cli.js'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'

const SAME: readonly (readonly [bytesPerSecond: number, texts: readonly string[]])[] = [
  [
    1.25e9,
    [
      ...['10Gbps', '10 Gbps', '10gbps', '10GBPS', '10Gb/s', '10 Gb/s', '10gb/s', '10Gb/S', '10Gbit/s', '10 gbit/s', '10GBIT/S'],
      ...['10Gbit', '10gbits', '10Gbits/s', '10G', '10g', '10 G', ' 10G ', '+10G', '10.0G', '10.G', '1e1G', '10000M', '0.01T'],
      ...['1.25GB/s', '1.25 gB/s', '1.25GB/S', '1250 MB/s', '1250000000B/s', '1.25Gbytes/s', '1.25e9 B/s', '1.25 Gbyte/s'],
    ],
  ],
  [111.25e6, ['890 Mb/s', '890Mb/s', '890Mbps', '890mbps', '890MBPS', '0.89Gb/s', '890000 kb/s', '890000Kbit/s']],
  [2 ** 20, ['1MiB/s', '1 MiB/s', '1miB/s', '1MIB/s', '1024KiB/s', '1024 kiB/s', '8Mibit/s', '8Mib/s', '8Mibps']],
  [2 ** 40, ['1TiB/s', '1024GiB/s']],
  [1, ['1B/s', '8bps', '8 b/s', '8bit/s', '.008kb/s']],
  [0, ['0', '0.0', ' 0 ', '0Gbps', '0 B/s']],
]

test.for(SAME)('%d bytes a second', ([bytes, texts]) => {
  for (const text of texts) expect([text, parseRate(text)]).toEqual([text, bytes])
})

const WRONG: readonly (readonly [text: string, why: RegExp])[] = [
  ['-5Gbps', /^rate '-5Gbps' is negative/],
  [' - 5 Gbps', /is negative/],
  ['-0.5%', /is negative/],
  ['10Gbps/s', /has no known unit: 'Gbps\/s' is none/],
  ['10 parsec', /has no known unit: 'parsec' is none/],
  ['10Xb/s', /has no known unit: 'Xb\/s' is none/],
  ['1e9', /has no known unit, so that it may be bits or bytes; for bits a second it is 1e9bps, for bytes a second 1e9B\/s/],
  ['10', /for bits a second it is 10bps, for bytes a second 10B\/s/],
  ['10GBps', /GBps may be bits or bytes; for bits a second it is 10Gbps, for bytes a second 10GB\/s/],
  ['10Bps', /Bps may be bits or bytes; for bits a second it is 10bps/],
  ['10GB', /GB is an amount, and a rate is 10GB\/s/],
  ['10Gb', /Gb is an amount, and a rate is 10Gb\/s/],
  ['10MiB', /MiB is an amount, and a rate is 10MiB\/s/],
  ['10Gi', /has no known unit: 'Gi' is none/],
  ['NaN', /has no number, and no known unit/],
  ['fast', /has no number, and no known unit/],
  ['Infinity', /has no number/],
  ['10 10G', /has more than one number/],
  ['10G 10G', /has more than one number/],
  ['1,5Gbps', /has a comma in its number, where a point belongs/],
  ['0x10', /is not a decimal number/],
  ['', /^rate '' is empty/],
  [' ', /is empty/],
  ['1e400Gbps', /is too large/],
  ['10Gbps\u202e', /is not a number with a unit/],
  ['0%', /would never send; 0 without % is as fast as possible/],
  ['50%', /is a share of a link; give it to openStream/],
]

test.for(WRONG)('%j', ([text, why]) => {
  const error = (() => {
    try {
      return parseRate(text)
    } catch (error) {
      return error as SpeadcastError
    }
  })()
  expect(error).toBeInstanceOf(SpeadcastError)
  expect(error).toMatchObject({ code: 'ERR_SPEADCAST_CONFIG', message: expect.stringMatching(why) })
  if (!text.includes('%')) expect((error as Error).message).toMatch(/write it as 10Gbps, 890 Mb\/s or 10G/)
})

test('a text of any length is told in short, and at once', () => {
  expect(() => parseRate('1'.repeat(300_000))).toThrow(/^rate '1{40}…' has no known unit.{1,400}$/)
  expect(() => parseRate(`${'1'.repeat(300_000)}Gbps`)).toThrow(/^rate '1{40}…' is too large.{1,400}$/)
  expect(() => parseRate(' '.repeat(300_000))).toThrow(/ is empty; write/)
})

test('numbers are bytes a second, and not negative', () => {
  expect(parseRate(12.5)).toBe(12.5)
  for (const rate of [-1, Number.NaN, Number.POSITIVE_INFINITY]) expect(() => parseRate(rate)).toThrow(/must be a number of bytes/)
  expect(() => parseRate(-5)).toThrow(/^rate is -5, which is negative/)
})

const opened = (options: object): Promise<string> =>
  openStream({ to: '127.0.0.1:9', ...options }).then(
    async (stream) => {
      await stream.destroy()
      return `${stream.rateBytesPerSecond}`
    },
    (error: Error & { code: string }) => `${error.code} ${error.message}`,
  )

test('a share of a link without a speed is refused, and says why', async () => {
  expect(await opened({ rate: '50%' })).toMatch(
    /^ERR_SPEADCAST_CONFIG rate '50%': lo is the loopback interface, which has no speed; give a rate such as 10Gbps instead/,
  )
  expect(await opened({ rate: '101%' })).toMatch(/^ERR_SPEADCAST_CONFIG rate '101%' is more than the link can carry/)
  expect(await opened({ rate: '0 %' })).toMatch(/^ERR_SPEADCAST_CONFIG rate '0 %' would never send/)
  expect(await opened({ rate: '50%', backend: 'udp', rateMethod: 'kernel' })).toMatch(/lo is the loopback interface/)
})

test('a virtual link has no speed, though its driver tells one', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: {} })
  // A veth claims 10 Gb/s of a wire that is not there.
  expect((await ns.exec('a', ['cat', '/sys/class/net/v0/speed'])).stdout).toBe('10000\n')
  for (const backend of ['udp', 'dgram'])
    expect(await ns.program('a', 'stream/opened', { to: `${ns.addresses.b.v4}:7148`, rate: '50%', backend })).toEqual({
      error: expect.stringMatching(/rate '50%': v0 has no speed, because v0 is virtual \(veth\)/),
    })
})

test('a share of the link of a device is that share of the speed that its driver tells', async (ctx) => {
  const device =
    existsSync('/sys/class/net') && readdirSync('/sys/class/net').find((name) => existsSync(`/sys/class/net/${name}/device`))
  const may = spawnSync('unshare', ['-m', 'true']).status === 0
  need(ctx, device && may, 'needs a network device, and a mount namespace')
  // Virtual machines' devices tell no speed, so that a file of the test's own stands in its place, in a mount namespace of its own.
  const speed = join(temporaryFolder(), 'speed')
  writeFileSync(speed, '2500\n')
  const at = `/sys/class/net/${device}/speed`
  const send = (rate: string) => {
    const args = [
      'send',
      '239.10.0.1:7148',
      '--interface',
      device,
      '--backend',
      'memory',
      '-n',
      '1',
      '-H',
      '64',
      '--rate',
      rate,
      '--json',
    ]
    const { stdout } = spawnSync(
      'unshare',
      ['-m', 'sh', '-c', 'mount --bind "$0" "$1" && shift && exec "$@"', speed, at, process.execPath, CLI, ...args],
      { encoding: 'utf8' },
    )
    const summary = JSON.parse(stdout)
    return (summary.error?.message ?? summary.rate.bytesPerSecond) as unknown
  }
  expect(send('25%')).toBe((0.25 * 2500e6) / 8)
  expect(send('100 %')).toBe(2500e6 / 8)
  writeFileSync(speed, '-1\n')
  expect(send('25%')).toContain(`the driver of ${device} does not tell the link's speed`)
})
