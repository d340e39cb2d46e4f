// Bad usage: exit status 2, nothing on standard output, and a message that names the value and the remedy.
import { createSocket } from 'node:dgram'
import { describe, expect, test } from 'vitest'
import { run } from '../support/cli.js'

const TO = '127.0.0.1:7148'

/** [arguments behind `send`, what the message must say]. */
const BAD: readonly (readonly [readonly string[], RegExp])[] = [
  [[], /missing required argument 'HOST:PORT'/],
  [['10.0.0.1'], /'10\.0\.0\.1': the port is missing: add one, 10\.0\.0\.1:7148; write HOST:PORT/],
  [['127.0.0.1:0'], /port 0 is not in 1–65535/],
  [['127.0.0.1:70000'], /port 70000 is not in 1–65535/],
  [['::1:7148'], /an IPv6 address needs brackets/],
  [['no-such-host.invalid:7148'], /'no-such-host\.invalid' did not resolve .*check the name/],
  [[TO, '[::1]:7148'], /mix IPv4 and IPv6/],
  [['[::1]:7148', '--interface', '127.0.0.1'], /interface 127\.0\.0\.1 is an IPv4 address but the endpoints are IPv6/],
  [[TO, '--interface', 'no-such-if'], /no interface is named 'no-such-if'; there are: lo/],
  [[TO, '--no-such-option'], /unknown option '--no-such-option'/],
  [[TO, '--heap', '8'], /unknown option '--heap'/],
  [[TO, '-H', '0'], /--heap-size <BYTES>' argument '0' is invalid.* from 1 to 2147483648/],
  [[TO, '-H', '1099511627776'], /--heap-size <BYTES>' argument '1099511627776' is invalid.* from 1 to 2147483648/],
  [[TO, '-H', '1.5'], /argument '1\.5' is invalid/],
  [[TO, '-H', '8Kib'], /argument '8Kib' is invalid.*such as 8192 or 8KiB/],
  [[TO, '-p', '0'], /--packet-size <BYTES>' argument '0' is invalid.* from 56 to 65507/],
  [[TO, '-p', '7'], /argument '7' is invalid.* from 56 to 65507/],
  [[TO, '-p', '47'], /argument '47' is invalid.* from 56 to 65507/],
  [[TO, '-p', '1000000'], /argument '1000000' is invalid.* from 56 to 65507/],
  [[TO, '-n', '-1'], /--heaps <N>' argument '-1' is invalid.* from 0 up/],
  [[TO, '-n', 'many'], /argument 'many' is invalid/],
  [[TO, '-n'], /'-n, --heaps <N>' argument missing/],
  [[TO, '--batch-heaps', '0'], /argument '0' is invalid/],
  [[TO, '--batches', '0'], /argument '0' is invalid/],
  [[TO, '--rate', '10'], /--rate '10' has no known unit.*; for bits a second it is 10bps.*write it as 10Gbps, 890 Mb\/s or 10G/],
  [[TO, '--rate', '10GBps'], /--rate '10GBps' has no known unit: GBps may be bits or bytes/],
  [[TO, '--rate', '-1Gbps'], /--rate '-1Gbps' is negative/],
  [[TO, '--rate', '50%'], /--rate '50%': lo is the loopback interface, which has no speed/],
  [[TO, '--burst', '0'], /argument '0' is invalid/],
  [[TO, '--burst-rate-ratio', '0.9'], /argument '0\.9' is invalid.* from 1 up/],
  [[TO, '--rate-method', 'hw'], /pacing by the NIC needs --backend ibverbs/],
  [[TO, '--backend', 'udp', '--poll', 'busy'], /--poll is for --backend ibverbs and rdma-ud, not udp/],
  [[TO, '--peer', '17/18'], /--peer is for --backend rdma-ud, not auto/],
  [
    [TO, '--backend', 'rdma-ud', '--peer', '17'],
    /'17' is no queue pair; write \[GID\/\]QPN\/QKEY\[\/LID\], such as 10\.0\.0\.5\/17\/0x1234567/,
  ],
  [[TO, '--backend', 'rdma-ud', '--peer', '17/18', '--peer', '18/18'], /--peer names 2 queue pairs for 1 endpoint;/],
  [
    [TO, '--backend', 'rdma-ud', '--peer', '16777216/18'],
    /--peer \(0\.qpn\) is 16777216; must be a whole number from 2 to 16777215/,
  ],
  [[TO, '--backend', 'rdma-ud', '--ttl', '0'], /--ttl is 0, which keeps packets on this host; --backend rdma-ud passes by/],
  [[TO, '--udp-path', 'raw'], /Allowed choices are auto, io_uring, sendmmsg/],
  [[TO, '--backend', 'dgram', '--udp-path', 'io_uring'], /--udp-path is for --backend udp, not dgram/],
  [[TO, '--pcap', '/tmp/x.pcap', '--udp-path', 'io_uring'], /--udp-path is for --backend udp, not pcap/],
  [[TO, '--rate-method', 'fast'], /Allowed choices are auto, sw, kernel, hw/],
  [[TO, '--group-mode', 'random'], /Allowed choices are serial, round-robin, by-substream/],
  [[TO, '--backend', 'smtp'], /Allowed choices are auto, ibverbs, tcp, rdma-ud, udp, dgram, pcap, memory/],
  [[TO, '--backend', 'dgram', '--thread', 'worker'], /--backend dgram runs on the event loop; leave --thread out/],
  [[TO, '--backend', 'pcap'], /--backend pcap needs --pcap, the file to write/],
  [[TO, '--backend', 'udp', '--pcap', '/tmp/x.pcap'], /--pcap writes a file instead of sending/],
  [[TO, '--ttl', '256'], /argument '256' is invalid.* from 0 to 255/],
  [[TO, '--heap-address-bits', '47'], /--heap-address-bits is 47; it must be one of 8, 16, 24, 32, 40, 48, 56/],
  [[TO, '--heap-address-bits', '56'], /item id 0x1600 does not fit SPEAD-64-56/],
  [[TO, '--heap-address-bits', '8'], /SPEAD-64-8 cannot hold the item ids, 0x1600 and 0x3300; use --descriptors none/],
  [[TO, '--first-cnt', '-1'], /argument '-1' is invalid/],
  [[TO, '--first-cnt', '281474976710656'], /heap cnt of SPEAD-64-48 is 281474976710656; it must be .* from 0 to 2\^48 − 1/],
  [[TO, '--cnt-step', '0'], /heap cnt step is 0; every heap needs its own cnt/],
  [[TO, '--descriptors', 'often'], /--descriptors is 'often'; it must be first, in-band, none or a number of seconds/],
  [[TO, '--descriptors', '0'], /--descriptors is '0'/],
  [[TO, '--split', 'exact'], /--split exact needs --payload-bytes/],
  [[TO, '--payload-bytes', '1024'], /--payload-bytes is for --split exact, not even/],
  [
    [TO, '--split', 'exact', '--payload-bytes', '8192', '-p', '1472'],
    /more than the maximum of 1472: raise the maximum packet size/,
  ],
  [[TO, '--dtype', 'i2', '--format', 'u10'], /--dtype and --format say the same; drop one of the two/],
  [[TO, '--format', 'x10'], /'x10' is no format; write its fields as letter and bits/],
  [[TO, '--format', 'f10'], /item 'adc_samples': .*f/],
  [[TO, '--item', 'a:0x4000:i1:4', '--items', '2'], /--items is of the items that there are without --item/],
  [[TO, '--item', 'a:0x4000:i1:4', '--dtype', 'i2'], /--dtype is of the items that there are without --item/],
  [[TO, '--item', 'a'], /'a' is no item; write NAME:ID:TYPE/],
  [[TO, '--item', 'a:b:i1'], /its ID is 'b', which is no whole number/],
  [[TO, '--item', 'a:0x4000:i1:4x'], /SHAPE is '4x'; write its dimensions as 4096 or 2x1024/],
  [[TO, '--item', 'a:3:i1:40'], /id 0x3 is one of SPEAD's own/],
  [[TO, '--item', 'a:0x4000:x99:40'], /dtype 'x99' cannot be sent/],
  [[TO, '--item', 'a:0x4000:i1:40', '--item', 'b:0x4000:i1:40'], /items a \(0x4000\) and b \(0x4000\) have the same id/],
  [[TO, '--item', 'timestamp:0x4000:i1:40'], /items timestamp \(0x1600\) and timestamp \(0x4000\) have the same name/],
  [[TO, '--item', 'a:0x4000:i1:40', '-H', '41'], /the items' shapes make 40 bytes a heap; leave it out/],
  [
    [TO, '--item', 'a:0x4000:i1:40', '--item', 'b:0x4001:<i4', '-H', '43'],
    /is no whole number of <i4 samples of 4 bytes behind the 40 bytes that have a SHAPE; use 44/,
  ],
  [[TO, '--item', 't:0x1600:u48=3'], /--item t has the timestamp's id, so it can have no VALUE/],
  [[TO, '--item', 'a:0x4000:<i4', '-H', '4'], /item a has 4 bytes a heap, which stand in its item pointer/],
  [[TO, '--item', 'a:0x4000:u16=70000', '--item', 'b:0x4001:i1:8'], /70000/],
  [[TO, '--item', 'a:0x4000:u16=7', '--input', '/dev/null'], /no item takes the samples/],
  [[TO, '--items', '3', '-H', '1000'], /no whole number of samples of 3 items, 3 bytes together; use 1002/],
  [[TO, '--pad-last'], /--pad-last is for --input and --loop/],
  [[TO, '--input', 'a', '--loop', 'b'], /--input sends samples once, --loop over and over/],
  [[TO, '--loop', 'a', '--batches', '3'], /--loop fills as many as its file makes/],
  [[TO, '--loop', '-'], /--loop: a window has an end/],
  [[TO, '--timestamp-step', '5', '--samples-per-heap', '5'], /--samples-per-heap is the former name of --timestamp-step/],
  [[TO, '--timestamp-id', 'x'], /--timestamp-id <ID>' argument 'x' is invalid/],
  [[TO, '--bug-compat', '8'], /--bug-compat <FLAGS>' argument '8' is invalid.* from 0 to 7, or some of descriptor-widths/],
  [[TO, '--vlan', '4095'], /--vlan <ID\[:PRIORITY\]>' argument '4095' is invalid.* from 1 to 4094/],
  [[TO, '--vlan', '5:8'], /argument '5:8' is invalid/],
  [[TO, '--affinity', '0-'], /argument '0-' is invalid.* such as 2,3 or 0-3/],
  [[TO, '--io-cpu', '0,1024'], /argument '0,1024' is invalid.* such as 2,3 or 0-3/],
  [[TO, '--main-cpu', '1e9'], /argument '1e9' is invalid.* such as 2,3 or 0-3/],
  [[TO, '--priority', '-21'], /argument '-21' is invalid.* nice value from -20 to 19, or rr:1 to rr:99/],
  [[TO, '--io-cpu', '1023', '--backend', 'udp'], /--io-cpu: none of CPUs 1023 may be used here/],
  [[TO, '--priority', 'rr'], /argument 'rr' is invalid/],
  [[TO, '--reconnect-seconds', 'soon'], /argument 'soon' is invalid.* or inf/],
  [
    [TO, '--connect-timeout', '50'],
    /--connect-timeout and --reconnect are only for --backend tcp, not 'auto'; write the endpoint as tcp:/,
  ],
  [[TO, '--input', '/dev/null', '--dtype', 'x9'], /dtype 'x9' cannot be sent; use a numpy scalar type/],
  [
    [TO, '--input', '/dev/null', '--dtype', 'i8', '-H', '1001'],
    /--heap-size 1001 is no whole number of i8 samples of 8 bytes; use 1008/,
  ],
  [
    [TO, '--input', '/dev/null', '-H', '4'],
    /4 bytes a heap, which travel inside the item pointer; give it a shape of more than 6 bytes/,
  ],
  [[TO, '--deadline', 'soon'], /argument 'soon' is invalid/],
]

describe('bad usage of send', () => {
  // A process each, some at a time.
  test.concurrent.for(BAD)('%j', { timeout: 60_000 }, async ([args, message], { expect }) => {
    const { code, stdout, stderr } = await run(['send', ...args])
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toMatch(message)
    expect(stderr).not.toMatch(/\n\s+at /)
  })
})

describe('bad usage of the program', () => {
  test.for([
    [['no-such-command'], /unknown command 'no-such-command'/],
    [[], /Usage: speadcast/],
    [['demo', 'extra'], /too many arguments for 'demo'/],
    [['demo', '--bytes', '0'], /argument '0' is invalid/],
    [['demo', '-p', '55'], /argument '55' is invalid.* from 56 to 65507/],
  ] as const)('%j', async ([args, message]) => {
    const { code, stdout, stderr } = await run(args)
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toMatch(message)
  })
})

test.for([
  [['--input', '/no/such/file'], /cannot read \/no\/such\/file: ENOENT/],
  [['--input', '/'], /cannot read \/: it is a directory/],
  [['--pcap', '/no/such/folder/x.pcap'], /cannot create the pcap file '\/no\/such\/folder\/x\.pcap': ENOENT/],
] as const)('what the system refuses is a failure at run time: %j', async ([args, message]) => {
  const { code, stdout, stderr } = await run(['send', TO, ...args])
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
  expect(stderr).toMatch(message)
})

test('what the host refuses for now is no bad usage: exit 1', async () => {
  const taken = createSocket('udp4')
  await new Promise<void>((bound) => taken.bind(0, '127.0.0.1', bound))
  const { port } = taken.address()
  try {
    for (const backend of ['native', 'dgram']) {
      const { code, stderr } = await run(['recv', `127.0.0.1:${port}`, '--backend', backend])
      expect({ backend, code, stderr }).toEqual({ backend, code: 1, stderr: expect.stringMatching(/EADDRINUSE/) })
    }
    for (const backend of ['udp', 'dgram']) {
      const { code, stderr } = await run([
        'send',
        '127.0.0.1:9',
        '--interface',
        '127.0.0.1',
        '--backend',
        backend,
        '--source-port',
        `${port}`,
      ])
      expect({ backend, code, stderr }).toEqual({ backend, code: 1, stderr: expect.stringMatching(/EADDRINUSE/) })
    }
  } finally {
    taken.close()
  }
  // An address that no interface has, and a name that nobody knows, are wrong words.
  expect((await run(['recv', '192.0.2.1:7148'])).code).toBe(2)
})
