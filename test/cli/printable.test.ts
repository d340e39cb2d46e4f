// Texts from outside reach a terminal escaped: what a peer sends, names of interfaces and files, arguments.
import { createSocket } from 'node:dgram'
import { expect, test } from 'vitest'
import { NativeError } from '#dist/ffi/native-error.js'
import { shown } from '#dist/src/checks.js'
import { jsonText, printable, SpeadcastError, warn } from '#dist/src/errors.js'
import { Heap, ItemGroup, openStream, packetsOf } from '#dist/src/index.js'
import { CLI, freePort, run, start } from '../support/cli.js'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'

/** Title change, clear screen, a forged line, C1's CSI, a line separator, a mark that turns the text around. */
const HOSTILE = '\x1b]0;owned\x07\x1b[2J\nall heaps verified\r\x9b31m\u2028\u202egnp.\x7f'
const SHOWN = String.raw`\x1b]0;owned\x07\x1b[2J\x0aall heaps verified\x0d\x9b31m\u2028\u202egnp.\x7f`
/** As it stands in a packet, and a text as long that we would send. */
const WIRE = HOSTILE.replace(/[^\0-\xff]/g, '')
const DECENT = 'n'.repeat(WIRE.length)
/** Anything but a letter or sign, and the ends of our own lines. */
const UNPRINTABLE = /[^\P{Cc}\n]|[\p{Zl}\p{Zp}\p{Bidi_Control}]|^all heaps verified/mu

test('printable and jsonText escape what is no letter, and leave the rest as it is', () => {
  expect(printable(HOSTILE)).toBe(SHOWN)
  expect(printable('\ud800 \udc00 \u{1f600} ä ‰ 漢 \\x1b')).toBe('\\ud800 \\udc00 \u{1f600} ä ‰ 漢 \\x1b')
  for (const text of [HOSTILE, '\ud800', 'ä\u{1f600}\u0085']) {
    expect(jsonText({ [text]: text })).not.toMatch(UNPRINTABLE)
    expect(JSON.parse(jsonText({ [text]: text }))).toEqual({ [text]: text })
  }
})

test('errors and warnings of the library are one line that is safe to print', async () => {
  const native = new NativeError('open', 2, HOSTILE)
  expect(native.message).toBe(`open failed: ENOENT (${SHOWN})`)
  expect(new SpeadcastError('ERR_SPEADCAST_CONFIG', HOSTILE).message).toBe(SHOWN)
  expect(shown('\x1b[2J')).toBe(String.raw`'\x1b[2J'`)
  const warned = new Promise<Error>((resolve) => process.once('warning', resolve))
  warn('SPEADCAST_TEST', HOSTILE)
  expect((await warned).message).toBe(SHOWN)
  const refused = await openStream({ to: '127.0.0.1:7148', interface: HOSTILE }).catch((error: Error) => error)
  expect(refused).toMatchObject({ code: 'ERR_SPEADCAST_INTERFACE', message: expect.stringContaining(SHOWN) })
})

/** One heap with one described item, and a stop. */
function packetsWith(init: Parameters<ItemGroup['add']>[0], replace: readonly [string, string]): Uint8Array[] {
  const items = new ItemGroup()
  items.add(init)
  items.get(init.name).value = new Int16Array(4)
  const cut = (heap: Heap, cnt: number) => packetsOf(heap, cnt, { maxPacketSizeBytes: 1472 })
  const packets = cut(items.getHeap({ descriptors: 'all', data: 'all' }), 1)
  return [...packets, ...cut(new Heap().addEnd(), 2)].map((packet) => {
    const text = Buffer.from(packet)
      .toString('latin1')
      .replaceAll(...replace)
    return Buffer.from(text, 'latin1')
  })
}

test.for([
  ['name', { id: 0x1000, name: DECENT, dtype: '<i2', shape: [4] }, [DECENT, WIRE]],
  ['description', { id: 0x1000, name: 'a', description: DECENT, dtype: '<i2', shape: [4] }, [DECENT, WIRE]],
  // The descriptor says in a text of Python what we would not send.
  ['dtype', { id: 0x1000, name: 'a', dtype: '<i2', shape: [4] }, ["'<i2'", "'\x1bi2'"]],
  ['format', { id: 0x1000, name: 'a', format: [['i', 16]], shape: [4] }, ['i\0\x10', '\x1b\0\x10']],
] as const)('recv prints no %s of a peer as it is', async ([, init, replace], _ctx) => {
  for (const json of [[], ['--json']]) {
    const port = await freePort()
    const receiver = start(['recv', `127.0.0.1:${port}`, '--timeout', '10', '--verify', ...json])
    await receiver.saw(/listening on/)
    const socket = createSocket('udp4')
    for (const packet of packetsWith(init as never, replace as never))
      await new Promise((sent) => socket.send(packet, port, '127.0.0.1', sent))
    socket.close()
    const { stdout, stderr } = await receiver.done
    expect(stdout).toMatch(json.length > 0 ? /^\{.*\}\n$/ : /item 0x1000/)
    expect(stdout + stderr).not.toMatch(UNPRINTABLE)
    if (init.name === DECENT)
      if (json.length > 0) expect(JSON.parse(stdout).items[0].name).toBe(WIRE)
      else expect(stdout).toContain(printable(WIRE))
  }
})

test('no argument is printed as it is, by the commands or by the parser of their options', async () => {
  const port = `127.0.0.1:${await freePort()}`
  for (const args of [
    ['send', `${HOSTILE}:7148`],
    ['send', `h\x1b[2J:7148`],
    ['send', HOSTILE],
    ['send', port, '--interface', HOSTILE],
    ['send', port, '--input', HOSTILE],
    ['send', port, '--input', 'x', '--dtype', HOSTILE],
    ['send', port, '--rate', HOSTILE],
    ['send', port, '--heaps', HOSTILE],
    ['send', port, '--backend', HOSTILE],
    ['send', port, '--peer', HOSTILE],
    ['send', port, '--pcap', `/nosuch/${HOSTILE}`],
    ['send', port, '--source-port', HOSTILE],
    ['send', port, '--affinity', HOSTILE],
    ['send', port, '--verbs-library', HOSTILE, '--backend', 'ibverbs'],
    ['send', port, `--${HOSTILE}`],
    ['send', port, '--heap', '--jsno', HOSTILE],
    ['recv', port, '--interface', HOSTILE],
    ['recv', port, '--output', `/nosuch/${HOSTILE}`],
    ['recv', port, '--device', HOSTILE, '--backend', 'rdma-ud'],
    ['recv', HOSTILE],
    ['doctor', HOSTILE],
    ['doctor', port, '--interface', HOSTILE],
    ['doctor', port, '--verbs-library', HOSTILE],
    ['devices', '--verbs-library', HOSTILE],
    ['devices', '--verbs-library', HOSTILE, '--json'],
    ['bench', HOSTILE],
    ['bench', port, '--interface', HOSTILE],
    ['demo', HOSTILE],
    [HOSTILE],
  ]) {
    const { stdout, stderr } = await run(args)
    expect({ args, bad: UNPRINTABLE.exec(stdout + stderr)?.[0] }).toEqual({ args, bad: undefined })
    expect(stdout + stderr).not.toBe('')
  }
  expect((await run(['send', port, '--jsno'])).stderr).toMatch(/^error: unknown option '--jsno'\n\(Did you mean --json\?\)\n/)
})

test('an interface whose name is no text: doctor and send show it escaped', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({})
  const name = '\x1b[2J\x9b!'
  await ns.exec('a', ['ip', 'link', 'add', name, 'mtu', '1400', 'type', 'ifb'])
  await ns.exec('a', ['ip', 'link', 'set', name, 'up'])
  await ns.exec('a', ['ip', 'address', 'add', '10.7.0.1/24', 'dev', name])
  for (const command of [
    ['doctor', '10.7.0.2:7148'],
    ['doctor', '10.7.0.2:7148', '--json', '-p', '1300'],
    ['doctor', '239.1.1.1:7148', '--interface', name, '-p', '1300'],
    ['send', '10.7.0.2:7148', '-n', '1'],
    ['send', '10.7.0.2:7148', '-n', '1', '-p', '1300', '--interface', name],
    ['send', '10.7.0.2:7148', '-n', '1', '-p', '1300', '--interface', name, '--json'],
    ['recv', '239.1.1.1:7148', '--interface', name, '--timeout', '0.1'],
    ['bench', '10.7.0.2:7148', '--interface', name, '-p', '1300', '--seconds', '0.1', '--sizes', '1KiB'],
  ]) {
    const { stdout, stderr } = await ns.exec('a', [process.execPath, CLI, ...command], { check: false })
    expect({ command, bad: UNPRINTABLE.exec(stdout + stderr)?.[0] }).toEqual({ command, bad: undefined })
  }
  const { stdout } = await ns.exec('a', [process.execPath, CLI, 'doctor', '10.7.0.2:7148', '-p', '1300'], { check: false })
  expect(stdout).toContain(String.raw`by \x1b[2J\x9b!, MTU 1400`)
})
