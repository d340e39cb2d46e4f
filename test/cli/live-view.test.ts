// `--live` on a real terminal: what it shows at several sizes, and that the terminal is as before, however it ends.
import { createSocket } from 'node:dgram'
import { describe, expect, test } from 'vitest'
import { layOut } from '#dist/src/cli/common/live-layout.js'
import { cut, padEnd, sparkline, widthOf } from '#dist/src/cli/common/live-text.js'
import { SubstreamTally } from '#dist/src/cli/common/substream-tally.js'
import { CLI, freePort, pointersOf, run, sink } from '../support/cli.js'
import { need } from '../support/need.js'
import { openTerminal, type Terminal, terminalUnavailable } from '../support/terminal.js'

const ORDINARY = { alternate: false, cursor: true, wraps: true }
const WITHIN = { alternate: true, cursor: false, wraps: false }
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** Waits for the end of the program, and expects the terminal to be as it was. */
async function expectAsBefore(terminal: Terminal, status: number): Promise<void> {
  await terminal.shows(new RegExp(`^status ${status}$`, 'm'))
  for (let waited = 0; terminal.modes[1] === '' && waited < 5000; waited += 50) await pause(50)
  expect(terminal.state).toEqual(ORDINARY)
  expect(terminal.modes[1]).toBe(terminal.modes[0])
}

describe('on a terminal', { timeout: 90_000 }, () => {
  test.for([
    [80, 24],
    [200, 50],
  ] as const)(
    'send at %i × %i: rates, counts, a row for each substream; Ctrl-C leaves it as it was',
    async ([columns, rows], ctx) => {
      need(ctx, !terminalUnavailable(), terminalUnavailable())
      const sinks = [await sink(), await sink(), await sink()]
      const terminal = openTerminal(columns, rows)
      await terminal.run(`send ${sinks.map(({ to }) => to).join(' ')} --forever -H 8KiB -p 9000 --rate 4MB/s --live`)
      await terminal.shows(/s a column/)
      await terminal.shows(/▁|█/)
      expect(terminal.state).toEqual(WITHIN)
      const lines = terminal.screen()
      expect(lines[0]).toMatch(new RegExp(`^udp on lo to ${sinks[0]!.to} and 2 more +0:0\\d$`))
      expect(lines[0]).toHaveLength(columns)
      expect(lines[1]).toMatch(/^\S+ [kM]B\/s {2}\S+ [kM]b\/s of 32\.00 Mb\/s asked {2}[\d,]+ packets\/s$/)
      expect(lines.join('\n')).toMatch(/heaps +[\d,]+ .*failed +0\b/s)
      const table = lines.findIndex((line) => /^substream +endpoint +heaps +payload +failed +refused$/.test(line))
      const cells = lines.slice(table + 1, table + 4).map((line) => line.split(/ {2,}/))
      expect(cells.map(([substream, endpoint]) => [substream, endpoint])).toEqual(sinks.map(({ to }, i) => [`${i}`, to]))
      expect(Number(cells[0]![2]!.replace(',', ''))).toBeGreaterThan(10)
      terminal.press('C-c')
      await expectAsBefore(terminal, 0)
      const after = terminal.screen().join('\n')
      // The summary, and what was said meanwhile.
      expect(after).toMatch(/^packets\/s +[\d,]+$/m)
      if (rows > 24) expect(after).toMatch(/^\d\d:\d\d:\d\d {2}interrupted: sending what is queued/m)
    },
  )

  test('resized while it runs, down to nothing and up again', async (ctx) => {
    need(ctx, !terminalUnavailable(), terminalUnavailable())
    const { to } = await sink()
    const terminal = openTerminal(80, 24)
    await terminal.run(
      `send ${Array(20)
        .fill(to)
        .map((_, i) => `127.0.0.${i + 1}:${to.split(':')[1]}`)
        .join(' ')} --forever -H 8KiB --rate 1MB/s --live`,
    )
    await terminal.shows(/^and \d+ substreams more$/m)
    for (const [columns, rows] of [
      [20, 3],
      [2, 1],
      [40, 10],
      [200, 50],
    ] as const) {
      terminal.resize(columns, rows)
      await pause(600)
      const lines = terminal.screen()
      expect(lines).toHaveLength(rows)
      if (columns >= 20) expect(lines[0]).toMatch(/^udp on lo/)
      // The title stands there once: nothing has scrolled.
      expect(lines.filter((line) => line.startsWith('udp on lo'))).toHaveLength(columns >= 20 ? 1 : 0)
    }
    await terminal.shows(/^19 +127\.0\.0\.20:/m)
    expect(terminal.state).toEqual(WITHIN)
    // stty tells the size too.
    terminal.resize(80, 24)
    terminal.press('C-c')
    await expectAsBefore(terminal, 0)
  })

  test.for([
    ['SIGTERM', 0],
    ['SIGHUP', 0],
    ['SIGQUIT', 131],
  ] as const)('%s leaves the terminal as it was', async ([signal, status], ctx) => {
    need(ctx, !terminalUnavailable(), terminalUnavailable())
    const { to } = await sink()
    const terminal = openTerminal(100, 30)
    await terminal.run(`send ${to} --forever -H 8KiB --rate 1MB/s --live`)
    await terminal.shows(/s a column/)
    process.kill(terminal.pid, signal)
    await expectAsBefore(terminal, status)
  })

  test('a terminal that closes ends the run as Ctrl-C does: the stop heap goes last', async (ctx) => {
    need(ctx, !terminalUnavailable(), terminalUnavailable())
    for (const shown of ['--live', '--interval 0.1', '']) {
      const { to, datagrams } = await sink()
      const terminal = openTerminal(100, 30)
      await terminal.run(`send ${to} --forever -H 8KiB --rate 1MB/s ${shown}`)
      while (datagrams.length < 50) await pause(20)
      terminal.close()
      const hasStopped = (): boolean => pointersOf(datagrams.at(-1)!).some(({ id, value }) => id === 6 && value === 2)
      for (let waited = 0; !hasStopped() && waited < 10_000; waited += 50) await pause(50)
      expect([shown, hasStopped()]).toEqual([shown, true])
    }
  })

  test('Ctrl-C twice leaves the terminal as it was', async (ctx) => {
    need(ctx, !terminalUnavailable(), terminalUnavailable())
    const { to } = await sink()
    const terminal = openTerminal(100, 30)
    // A heap takes ten seconds.
    await terminal.run(`send ${to} --forever --rate 100kB/s --deadline 3600 --live`)
    await terminal.shows(/s a column/)
    terminal.press('C-c')
    await terminal.shows(/\d\d:\d\d:\d\d {2}interrupted/)
    terminal.press('C-c')
    await expectAsBefore(terminal, 130)
  })

  test.for(['--live', '--interval 0.1', ''])('Ctrl-S holds up the terminal and no heap: %j', async (shown, ctx) => {
    need(ctx, !terminalUnavailable(), terminalUnavailable())
    const { to, datagrams } = await sink()
    const terminal = openTerminal(100, 30)
    await terminal.run(`send ${to} --forever -H 8KiB --batch-heaps 2 --rate 1MB/s ${shown}`)
    while (datagrams.length < 100) await pause(20)
    terminal.press('C-s')
    await pause(500)
    const before = datagrams.length
    await pause(2000)
    // At 1 MB/s some 700 a second.
    expect(datagrams.length - before).toBeGreaterThan(500)
    terminal.press('C-q')
    await pause(600)
    terminal.press('C-c')
    await expectAsBefore(terminal, 0)
  })

  test('in the background nothing is drawn: after &, and after bg', async (ctx) => {
    need(ctx, !terminalUnavailable(), terminalUnavailable())
    const { to, datagrams } = await sink()
    for (const shown of ['--live', '']) {
      const terminal = openTerminal(100, 30)
      const isShown = shown === '' ? /sent [\d,]+ heaps/ : /s a column/
      terminal.press(`${process.execPath} ${CLI} send ${to} --forever -H 8KiB --rate 1MB/s ${shown} &`, 'Enter')
      for (const start = datagrams.length; datagrams.length < start + 1000; ) await pause(20)
      expect(terminal.state).toEqual(ORDINARY)
      expect(terminal.screen().join('\n')).not.toMatch(isShown)
      terminal.press('fg', 'Enter')
      await terminal.shows(isShown)
      if (shown !== '') expect(terminal.state).toEqual(WITHIN)
      terminal.press('C-z')
      await terminal.shows(/Stopped/)
      terminal.press('clear; bg', 'Enter')
      for (const start = datagrams.length; datagrams.length < start + 1000; ) await pause(20)
      expect(terminal.state).toEqual(ORDINARY)
      expect(terminal.screen().join('\n')).not.toMatch(isShown)
      terminal.press('fg', 'Enter')
      await terminal.shows(isShown)
      terminal.press('C-c')
      await terminal.shows(/^packets\/s/m)
      expect(terminal.state).toEqual(ORDINARY)
    }
  })

  test('Ctrl-Z gives the terminal back, fg takes it again', async (ctx) => {
    need(ctx, !terminalUnavailable(), terminalUnavailable())
    const { to } = await sink()
    const terminal = openTerminal(100, 30)
    await terminal.run(`send ${to} --forever -H 8KiB --rate 1MB/s --live`)
    await terminal.shows(/s a column/)
    terminal.press('C-z')
    await terminal.shows(/Stopped/)
    expect(terminal.state).toEqual(ORDINARY)
    terminal.press('fg', 'Enter')
    await terminal.shows(/s a column/)
    expect(terminal.state).toEqual(WITHIN)
    terminal.press('C-c')
    await terminal.shows(/^packets\/s/m)
    expect(terminal.state).toEqual(ORDINARY)
  })

  test('heaps that cannot be sent show in their substream’s row and as an event, and are told afterwards', async (ctx) => {
    need(ctx, !terminalUnavailable(), terminalUnavailable())
    const { to } = await sink()
    const terminal = openTerminal(120, 40)
    // A broadcast address, which the kernel refuses without --broadcast (EACCES, ip(7)).
    await terminal.run(`send ${to} 127.255.255.255:7148 --forever -H 8KiB --rate 1MB/s --live`)
    const text = await terminal.shows(/^1 +127\.255\.255\.255:7148 +0 +0 B +[1-9]/m)
    expect(text).toMatch(/^0 +127\.0\.0\.1:\d+ +[1-9][\d,]* .* 0 +0$/m)
    expect(text).toMatch(/^\d\d:\d\d:\d\d {2}127\.255\.255\.255/m)
    terminal.press('C-c')
    await expectAsBefore(terminal, 1)
  })

  test.for([
    [80, 24],
    [200, 50],
  ] as const)(
    'recv at %i × %i: rates, counts, a row for each endpoint; it ends at the stop heaps',
    async ([columns, rows], ctx) => {
      need(ctx, !terminalUnavailable(), terminalUnavailable())
      const to = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`]
      const terminal = openTerminal(columns, rows)
      await terminal.run(`recv ${to.join(' ')} --live`)
      await terminal.shows(/^recvmmsg on /m)
      // Heap i goes to substream i mod 2, so none to the third.
      await run(['send', to[0]!, to[1]!, '-H', '8KiB', '-n', '101', '--no-stop'])
      const text = await terminal.shows(/^heaps +101 +incomplete +0/m)
      expect(text).toMatch(/kernel dropped +0/)
      expect(terminal.screen()[0]).toMatch(/^recvmmsg on 127\.0\.0\.1:\d+ and 2 more +0:\d\d$/)
      expect(terminal.screen()[0]).toHaveLength(columns)
      const lines = terminal.screen()
      const table = lines.findIndex((line) => /^# +endpoint +heaps +payload +incompl\. +corrupt +dropped$/.test(line))
      const cells = lines.slice(table + 1, table + 4).map((line) => line.split(/ {2,}/))
      expect(cells).toEqual([
        ['0', to[0], '51', '417.79 kB', '0', '0', '0'],
        ['1', to[1], '50', '409.60 kB', '0', '0', '0'],
        ['2', to[2], '0', '0 B', '0', '0', '0'],
      ])
      await run(['send', ...to, '-H', '8KiB', '-n', '3'])
      await expectAsBefore(terminal, 0)
    },
  )

  test('recv where endpoints are more than rows: those with losses stand first', async (ctx) => {
    need(ctx, !terminalUnavailable(), terminalUnavailable())
    const port = await freePort()
    const terminal = openTerminal(80, 18)
    await terminal.run(`recv 127.0.0.1+11:${port} --live`)
    await terminal.shows(/^recvmmsg on .* and 11 more/m)
    await terminal.shows(/^and \d+ endpoints more$/m)
    expect(terminal.screen().join('\n')).not.toMatch(/^11 /m)
    const socket = createSocket('udp4')
    for (let i = 0; i < 3; i++) await new Promise<void>((resolve) => socket.send('no SPEAD', port, '127.0.0.12', () => resolve()))
    socket.close()
    await terminal.shows(/dropped\n11 +127\.0\.0\.12:\d+ +0 +0 B +0 +0 +0\n0 +127\.0\.0\.1:/)
    terminal.press('C-c')
    await expectAsBefore(terminal, 0)
  })

  test('bench: each size in its turn, and the table afterwards', async (ctx) => {
    need(ctx, !terminalUnavailable(), terminalUnavailable())
    const { to } = await sink()
    const terminal = openTerminal(120, 40)
    await terminal.run(`bench ${to} --sizes 8KiB,16KiB --seconds 2 --warmup-seconds 0.5 --rate 1MB/s --live`)
    await terminal.shows(/^heaps of 8 KiB, udp on lo to .* +0:0\d$/m)
    expect(terminal.state).toEqual(WITHIN)
    await terminal.shows(/^heaps of 16 KiB, udp on lo to /m)
    await terminal.shows(/^substream +endpoint +heaps +payload +failed +refused\n0 +127\.0\.0\.1:\d+ +[1-9]\d* /m)
    await terminal.shows(/^16 KiB +1 /m)
    await expectAsBefore(terminal, 0)
  })

  test('a dumb terminal gets lines instead, and a sentence', async (ctx) => {
    need(ctx, !terminalUnavailable(), terminalUnavailable())
    const { to } = await sink()
    const terminal = openTerminal(120, 40, 'TERM=dumb')
    await terminal.run(`send ${to} -H 8KiB -n 300 --rate 1MB/s --live --interval 0.5`)
    await terminal.shows(
      /^speadcast send: --live needs a terminal that moves its cursor, and TERM is 'dumb'; a line each 0\.5 s instead$/m,
    )
    await terminal.shows(/^0\.00-0\.5\d s +[\d,]+ /m)
    await expectAsBefore(terminal, 0)
  })
})

test('without a terminal there are lines instead, and a sentence', async () => {
  const { to } = await sink()
  const { code, stdout, stderr } = await run(['send', to, '-n', '3', '-H', '64', '--live'])
  expect({ code, stderr }).toEqual({
    code: 0,
    stderr: 'speadcast send: --live needs a terminal on standard error; a line each 1 s instead\n',
  })
  expect(stdout).toMatch(/^interval .*\n0\.00-\d+\.\d\d s +3 /)
})

describe('text by its width', () => {
  test.for([
    ['abc', 3],
    ['', 0],
    ['漢字', 4],
    ['한국어', 6],
    ['ＡＢ', 4],
    ['e\u0301', 1],
    ['é–×’', 4],
    ['▁▂█', 3],
    ['\u{1f600}', 2],
    ['\u200b', 0],
  ] as const)('%s takes %i columns', ([text, width]) => {
    expect(widthOf(text)).toBe(width)
  })

  test('a text is cut between characters, and fills what it is asked to', () => {
    expect([6, 5, 4, 3, 2, 1, 0].map((columns) => cut('漢字漢', columns))).toEqual(['漢字漢', '漢字…', '漢…', '漢…', '…', '…', ''])
    expect(padEnd('漢', 4)).toBe('漢  ')
    expect(cut('abc', 3)).toBe('abc')
  })

  test('bars: the highest is full, nothing is a blank, and the last columns are shown', () => {
    expect(sparkline([0, 1, 4, 8], 10)).toBe(' ▂▅█')
    expect(sparkline([8, 1, 2], 2)).toBe('▅█')
    expect(sparkline([0, 0], 5)).toBe('  ')
    expect(sparkline([], 5)).toBe('')
  })
})

test('no size of a terminal gets a line too many or too long', () => {
  const content = {
    title: 'udp on 漢字 to [fe80::1%漢字]:7148 and 15 more',
    headline: '128.38 MB/s  1.03 Gb/s of 1.00 Gb/s asked  15,624 packets/s',
    facts: Array.from({ length: 13 }, (_, i) => [`fact ${i}`, '漢'.repeat(i)] as const),
    table: (most: number) => ({
      head: ['substream', 'endpoint', 'heaps', 'payload', 'failed', 'refused'],
      rows: Array.from({ length: Math.min(most, 16) }, (_, i) => [`${i}`, '[fe80::1%漢字]:7148', '4,332', '35.49 MB', '0', '0']),
      more: Math.max(0, 16 - most),
      noun: 'substream',
    }),
  }
  const events = Array.from({ length: 9 }, (_, i) => ({ time: '12:34:56', line: `\x1b[2J漢字 ${i}` }))
  const state = { content, seconds: 3725, rates: Array.from({ length: 600 }, (_, i) => i), columnSeconds: 1, events }
  for (let columns = 1; columns <= 210; columns += columns < 30 ? 1 : 17)
    for (let rows = 1; rows <= 60; rows += rows < 12 ? 1 : 7) {
      const lines = layOut(state, columns, rows)
      expect(lines.length).toBeLessThanOrEqual(rows)
      expect(lines.length).toBeGreaterThan(0)
      for (const line of lines) {
        expect(widthOf(line)).toBeLessThanOrEqual(columns)
        expect(line).not.toMatch(/\p{Cc}/u)
      }
    }
})

test('heaps of substreams: i mod n, failures where they were', () => {
  const tally = new SubstreamTally(3)
  tally.settled(4, [], [])
  // Heaps 4 to 8: the second and the last of them, which go to substreams 2 and 2.
  tally.settled(5, [1, 4], [{ substream: 2, packets: 7 }])
  expect([0, 1, 2].map((substream) => tally.counts(substream))).toEqual([
    { heaps: 3, failed: 0, refused: 0 },
    { heaps: 3, failed: 0, refused: 0 },
    { heaps: 1, failed: 2, refused: 7 },
  ])
  expect([tally.foremost(2), tally.foremost(3)]).toEqual([
    [2, 0],
    [0, 1, 2],
  ])
  // A second run begins at substream 0 again.
  tally.begin()
  tally.settled(1, [0], [])
  expect([0, 1, 2].map((substream) => tally.counts(substream).heaps)).toEqual([3, 3, 1])
  expect(tally.counts(0).failed).toBe(1)
  expect([0, 1].map((substream) => new SubstreamTally(2).counts(substream).heaps)).toEqual([0, 0])
})
