import { lookup } from 'node:dns/promises'
import { expect, test } from 'vitest'
import { addToAddress, formatAddress, isMulticast, needsScope, parseAddress } from '#dist/src/net/address.js'
import { MAX_ENDPOINTS, parseEndpoints, resolveEndpoints } from '#dist/src/net/endpoint.js'

const texts = (...specs: string[]) => parseEndpoints(specs).map(({ text }) => text)

/** The error's code and message, which must quote the input and show a right example. */
function refused(spec: string): string {
  try {
    parseEndpoints([spec])
  } catch (error) {
    const { code, message } = error as { code: string; message: string }
    expect(code).toBe('ERR_SPEADCAST_ENDPOINT')
    expect(message).toContain(`'${spec}'`)
    expect(message).toContain("'239.10.0.1:7148'")
    return message
  }
  return 'accepted'
}

test('addresses, names and brackets', () => {
  const [v4, name, v6, zone] = parseEndpoints(['239.10.0.1:7148', 'receiver-1.example.org:1', '[::1]:65535', '[fe80::1%eth0]:7148'])
  expect(v4).toEqual({
    transport: 'udp',
    text: '239.10.0.1:7148',
    host: '239.10.0.1',
    bytes: Uint8Array.of(239, 10, 0, 1),
    port: 7148,
  })
  expect(name).toEqual({ transport: 'udp', text: 'receiver-1.example.org:1', host: 'receiver-1.example.org', port: 1 })
  expect(v6).toMatchObject({ text: '[::1]:65535', host: '::1', port: 65535 })
  expect(v6!.bytes).toEqual(Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1))
  expect(zone).toMatchObject({ text: '[fe80::1%eth0]:7148', zone: 'eth0' })
  expect(texts('[FF15:0:0:0:0:0:0:1]:7')).toEqual(['[ff15::1]:7'])
})

test('ranges are consecutive addresses, carried into the next octet or group', () => {
  const sixteen = texts('239.10.10.0+15:7148')
  expect(sixteen.length).toBe(16)
  expect([sixteen[0], sixteen[15]]).toEqual(['239.10.10.0:7148', '239.10.10.15:7148'])
  expect(texts('239.10.10.254+3:5')).toEqual(['239.10.10.254:5', '239.10.10.255:5', '239.10.11.0:5', '239.10.11.1:5'])
  expect(texts('239.1.2.3+0:5')).toEqual(['239.1.2.3:5'])
  expect(texts('[ff15::1+3]:7148')).toEqual(['[ff15::1]:7148', '[ff15::2]:7148', '[ff15::3]:7148', '[ff15::4]:7148'])
  expect(texts('[ff12::fffe+2%eth1]:9')).toEqual(['[ff12::fffe%eth1]:9', '[ff12::ffff%eth1]:9', '[ff12::1:0%eth1]:9'])
  expect(texts('10.0.0.1+1:5', '10.0.0.9:6')).toEqual(['10.0.0.1:5', '10.0.0.2:5', '10.0.0.9:6'])
  expect(parseEndpoints([`10.0.0.0+${MAX_ENDPOINTS - 1}:1`]).at(-1)!.text).toBe('10.0.255.255:1')
})

test.each([
  ['', 'it is empty'],
  ['udp://', 'it is empty'],
  ['239.10.0.1', 'the port is missing: add one, 239.10.0.1:7148'],
  ['host:', 'the port is missing: add one, host:7148'],
  ['udp://host', 'the port is missing: add one, udp://host:7148'],
  ['7148', 'the host is missing: write 127.0.0.1:7148 for this machine'],
  ['7148:10.0.0.1', 'the port comes last: 10.0.0.1:7148'],
  ['http://host:80', "'http' is not a transport of ours; there are udp:// and tcp://"],
  ['udp://host:80/x', "'80/x' is not a port"],
  ['host:80/', "'80/' is not a port"],
  ['10.0.0.1:7148:7149', 'more than one colon; give endpoints one by one, or with commas between'],
  ['host:1:2', 'more than one colon'],
  ['a:b:c', 'more than one colon'],
  [':7148', 'the host is missing'],
  ['host:0', 'port 0 is not in 1–65535'],
  ['host:70000', 'port 70000 is not in 1–65535'],
  ['host:-1', "'-1' is not a port"],
  ['host:7148x', "'7148x' is not a port"],
  ['host:1e3', "'1e3' is not a port"],
  ['::1:7148', 'an IPv6 address needs brackets: [::1]:7148'],
  ['ff15::2:65535', 'an IPv6 address needs brackets: [ff15::2]:65535'],
  ['fe80::1', 'an IPv6 address needs brackets: [fe80::1]:7148'],
  ['2001:db8:0:0:1:0:0:1', 'an IPv6 address needs brackets: [2001:db8:0:0:1:0:0:1]:7148'],
  ['fe80::1%eth0', 'an IPv6 address needs brackets: [fe80::1%eth0]:7148'],
  ['[::1]', 'the port is missing'],
  ['[::1]7148', "'7148' is not a colon and a port"],
  ['[10.0.0.1]:7148', 'is not an IPv6 address'],
  ['[host]:7148', 'is not an IPv6 address'],
  ['[::1:7148', 'brackets go around'],
  ['a[::1]:7148', 'brackets go around'],
  ['host]:7148', 'brackets go around'],
  ['[::1%]:7148', "the zone behind '%' is empty"],
  ['[::ffff:10.0.0.1]:7148', 'write 10.0.0.1:7148'],
  ['300.1.2.3:7148', 'not an IPv4 address'],
  ['10.1:7148', 'not an IPv4 address'],
  ['010.0.0.1:7148', 'not an IPv4 address'],
  ['0x7f.0.0.1:7148', 'not an IPv4 address'],
  ['10.0.0.1%eth0:7148', 'an IPv4 address has no zone'],
  ['my host:7148', 'is not a host name'],
  ['host-:7148', 'is not a host name'],
  ['host/24:7148', 'is not a host name'],
  ['host+3:7148', 'a range needs an address'],
  ['10.0.0.1+:7148', 'is not a number of further addresses'],
  ['10.0.0.1+-1:7148', 'is not a number of further addresses'],
  ['10.0.0.1+1.5:7148', 'is not a number of further addresses'],
  ['10.0.0.1+65536:7148', 'is too long'],
  ['255.255.255.250+6:7148', 'passes the last address'],
  ['[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe+2]:7148', 'passes the last address'],
  ['239.255.255.250+6:7148', 'outside the multicast block'],
  ['223.255.255.250+6:7148', 'inside the multicast block'],
])('%s is refused: %s', (spec, why) => {
  expect(refused(spec)).toContain(why)
})

test('a scheme, and lists with commas', () => {
  expect(texts('udp://10.0.0.1:7', 'UDP://host:8/')).toEqual(['10.0.0.1:7', 'host:8'])
  expect(texts('tcp://10.0.0.1:7,TCP://[::1]:8/')).toEqual(['tcp://10.0.0.1:7', 'tcp://[::1]:8'])
  expect(texts('10.0.0.1:7,10.0.0.2+1:8, host:9', '10.0.0.9:1')).toEqual([
    '10.0.0.1:7',
    '10.0.0.2:8',
    '10.0.0.3:8',
    'host:9',
    '10.0.0.9:1',
  ])
  for (const text of ['10.0.0.1:7,', ',10.0.0.1:7', '10.0.0.1:7,,10.0.0.1:8'])
    expect(() => parseEndpoints([text])).toThrow(/endpoint '': it is empty/)
  // The part that is wrong is named, not the whole.
  expect(() => parseEndpoints(['10.0.0.1:7,10.0.0.2'])).toThrow(/^endpoint '10\.0\.0\.2': the port is missing/)
})

test('no endpoints, too many, and things that are not strings', () => {
  expect(() => parseEndpoints([])).toThrow(/no endpoint given/)
  expect(() => parseEndpoints(['10.0.0.0+65535:1', '11.0.0.0:1'])).toThrow(/more than 65536 endpoints at '11.0.0.0:1'/)
  expect(() => parseEndpoints([7148 as unknown as string])).toThrow(/is a number/)
})

test('address text: every form is parsed and written as RFC 5952 asks', () => {
  // Examples of RFC 5952 §1–4 and RFC 4291 §2.2.
  const canonical: [string, string][] = [
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:0db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:db8::1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['2001:DB8::0', '2001:db8::'],
    ['::', '::'],
    ['1::', '1::'],
    ['::13.1.68.3', '::d01:4403'],
    ['FF01:0:0:0:0:0:0:101', 'ff01::101'],
  ]
  for (const [text, expected] of canonical) expect(formatAddress(parseAddress(text)!)).toBe(expected)
  for (const text of ['1.2.3', '1.2.3.4.5', '1.2.3.256', ':::', '1:2:3:4:5:6:7', 'fe80::1%eth0', '', 'host'])
    expect(parseAddress(text)).toBe(undefined)
  expect(formatAddress(addToAddress(parseAddress('10.255.255.255')!, 1)!)).toBe('11.0.0.0')
  expect(addToAddress(parseAddress('255.255.255.255')!, 1)).toBe(undefined)
  expect(['224.0.0.0', '239.255.255.255', 'ff02::1'].map((text) => isMulticast(parseAddress(text)!))).toEqual([true, true, true])
  expect(['223.255.255.255', '240.0.0.0', 'fe80::1'].map((text) => isMulticast(parseAddress(text)!))).toEqual([false, false, false])
  expect(
    ['fe80::1', 'febf::1', 'ff02::1', 'ff15::1', 'fec0::1', '169.254.1.1'].map((text) => needsScope(parseAddress(text)!)),
  ).toEqual([true, true, true, false, false, false])
})

test('literals resolve to themselves, of one family', async () => {
  const resolved = await resolveEndpoints(parseEndpoints(['239.1.2.3+1:7148', '10.0.0.1:9']))
  expect(resolved).toEqual([
    {
      family: 4,
      address: '239.1.2.3',
      bytes: Uint8Array.of(239, 1, 2, 3),
      port: 7148,
      scopeId: 0,
      multicast: true,
      text: '239.1.2.3:7148',
    },
    {
      family: 4,
      address: '239.1.2.4',
      bytes: Uint8Array.of(239, 1, 2, 4),
      port: 7148,
      scopeId: 0,
      multicast: true,
      text: '239.1.2.4:7148',
    },
    {
      family: 4,
      address: '10.0.0.1',
      bytes: Uint8Array.of(10, 0, 0, 1),
      port: 9,
      scopeId: 0,
      multicast: false,
      text: '10.0.0.1:9',
    },
  ])
  const [v6] = await resolveEndpoints(parseEndpoints(['[ff12::1%lo]:7148']))
  expect(v6).toMatchObject({ family: 6, scopeId: 1, multicast: true, text: '[ff12::1%lo]:7148' })
  await expect(resolveEndpoints(parseEndpoints(['10.0.0.1:1', '[::1]:1']))).rejects.toMatchObject({
    code: 'ERR_SPEADCAST_ENDPOINT',
    message: expect.stringContaining('10.0.0.1:1 and [::1]:1'),
  })
  await expect(resolveEndpoints(parseEndpoints(['10.0.0.1:1']), { family: 6 })).rejects.toMatchObject({
    code: 'ERR_SPEADCAST_ENDPOINT',
  })
  await expect(resolveEndpoints(parseEndpoints(['[fe80::1%nosuch0]:1']))).rejects.toMatchObject({
    code: 'ERR_SPEADCAST_INTERFACE',
    message: expect.stringMatching(/'nosuch0'; there are: .*lo \(127\.0\.0\.1/),
  })
})

test('names resolve to the family of the others', async () => {
  const has = await lookup('localhost', { all: true })
  const [alone] = await resolveEndpoints(parseEndpoints(['localhost:7148']))
  expect(alone).toMatchObject({ family: 4, address: '127.0.0.1', text: 'localhost (127.0.0.1):7148' })
  const mixed = await resolveEndpoints(parseEndpoints(['localhost:7148', '10.0.0.1:1']))
  expect(mixed.map(({ family }) => family)).toEqual([4, 4])
  const six = resolveEndpoints(parseEndpoints(['localhost:7148']), { family: 6 })
  if (has.some(({ family }) => family === 6)) expect((await six)[0]).toMatchObject({ family: 6, address: '::1' })
  else
    await expect(six).rejects.toMatchObject({ code: 'ERR_SPEADCAST_RESOLVE', message: expect.stringContaining('it has 127.0.0.1') })
  // RFC 6761: `invalid` never resolves.
  await expect(resolveEndpoints(parseEndpoints(['no-such-host.invalid:7148']))).rejects.toMatchObject({
    code: 'ERR_SPEADCAST_RESOLVE',
    message: expect.stringContaining("'no-such-host.invalid' did not resolve"),
    cause: expect.objectContaining({ syscall: 'getaddrinfo' }),
  })
})
