// Every kind of bad input: an error with a stable code, a message that names the value and the remedy, and nothing lost around it.

import {
  type BatchOptions,
  BUG_COMPAT,
  type ErrorCode,
  type ExactPointer,
  Heap,
  Item,
  ItemGroup,
  openStream,
  type Region,
  type SpeadcastError,
  type Stream,
  type StreamOptions,
} from 'speadcast'
import { describe, expect, onTestFinished, test } from 'vitest'
import { need } from '../support/need.js'
import { fill, itemsOf, numberHeap, openOutlet, type SampleBatch, timestampsOf } from './support.js'

/** Arguments that TypeScript would refuse. */
const untyped = <T>(value: unknown): T => value as T

const TO = '127.0.0.1:7148'
const WHOLE_48 = /whole number from 0 to 2\^48 − 1/

/** Options, and the backends that would ignore them. */
const IGNORED: readonly (readonly [option: keyof StreamOptions, value: unknown, backends: readonly string[]])[] = [
  ['neighbourTimeoutMs', 5, ['tcp', 'dgram', 'pcap', 'memory']],
  ['udpPath', 'io_uring', ['tcp', 'pcap', 'memory']],
  ['segmentation', 'off', ['tcp', 'dgram', 'pcap', 'memory']],
  ['allowFragmentation', true, ['tcp', 'pcap', 'memory']],
  ['multicastLoop', false, ['tcp', 'pcap', 'memory']],
  ['broadcast', true, ['tcp', 'pcap', 'memory']],
  ['sendBufferBytes', 65536, ['pcap', 'memory', 'ibverbs', 'rdma-ud']],
  ['ttl', 3, ['memory']],
  ['dscp', 3, ['memory']],
  ['sourcePort', 4000, ['memory']],
  ['ioThreads', 2, ['dgram', 'memory']],
  ['ibverbs', {}, ['tcp', 'dgram', 'pcap', 'memory']],
]
const withBackend = (backend: string, options: object): object =>
  ({ to: backend === 'tcp' ? `tcp://${TO}` : TO, ...(backend !== 'tcp' && { backend }), ...(backend === 'pcap' && { pcapPath: '/dev/null' }), ...options }) // biome-ignore format: one line

/** Options of openStream besides `to`. */
const OPEN: readonly (readonly [what: string, options: unknown, code: string, message: RegExp])[] = [
  ['no options', undefined, 'CONFIG', /options are undefined; give an object/],
  ['null', null, 'CONFIG', /options are null; give an object/],
  ['no endpoints', {}, 'CONFIG', /'to' is missing; give it the endpoints, 'HOST:PORT'/],
  ['a number for endpoint', { to: 7148 }, 'CONFIG', /'to' is 7148; must be an endpoint 'HOST:PORT'/],
  ['a number among endpoints', { to: [TO, 7148] }, 'CONFIG', /'to\.1' is 7148; must be an endpoint 'HOST:PORT'/],
  ['an empty list', { to: [] }, 'ENDPOINT', /no endpoint given; for example/],
  ['an endpoint of nothing', { to: '' }, 'ENDPOINT', /endpoint '': it is empty; write HOST:PORT/],
  ['no port', { to: '10.0.0.1' }, 'ENDPOINT', /'10\.0\.0\.1': the port is missing: add one, 10\.0\.0\.1:7148; write HOST:PORT/],
  ['port 0', { to: '127.0.0.1:0' }, 'ENDPOINT', /port 0 is not in 1–65535; write HOST:PORT/],
  ['port 70000', { to: '127.0.0.1:70000' }, 'ENDPOINT', /port 70000 is not in 1–65535/],
  ['a port that is none', { to: '127.0.0.1:http' }, 'ENDPOINT', /'http' is not a port/],
  ['IPv6 without brackets', { to: '::1:7148' }, 'ENDPOINT', /needs brackets: \[::1\]:7148; write HOST:PORT/],
  ['two families', { to: [TO, '[::1]:7148'] }, 'ENDPOINT', /mix IPv4 and IPv6 .*open a stream for each family/],
  ['too many endpoints', { to: ['10.0.0.0+65535:1', '10.1.0.0:1'] }, 'ENDPOINT', /more than 65536 endpoints at '10\.1\.0\.0:1'/],
  ['a range too long', { to: '10.0.0.0+65536:1' }, 'ENDPOINT', /65537 addresses is too long, the limit is 65536/],
  ['an unknown host', { to: 'no-such-host.invalid:7148' }, 'RESOLVE', /'no-such-host\.invalid' did not resolve .*check the name/],
  ['an unknown option', { to: TO, packetSize: 1472 }, 'CONFIG', /unknown option 'packetSize'; known ones: to, interface, .*packetSizeBytes/],
  ['an unknown option inside flavour', { to: TO, flavour: { bits: 48 } }, 'CONFIG', /'flavour\.bits'; known ones: heapAddressBits, bugCompat/],
  ['an unknown option inside memory', { to: TO, backend: 'memory', memory: { keep: true } }, 'CONFIG', /'memory\.keep'; known ones: keepPackets/],
  ['an unknown option inside split', { to: TO, split: { payloadBytes: 8, pointers: [], repeats: true } }, 'CONFIG', /'split\.repeats'; known ones: payloadBytes, pointers, repeat/],
  ['an unknown option inside descriptors', { to: TO, descriptors: { everySecond: 1 } }, 'CONFIG', /'descriptors\.everySecond'; known ones: everySeconds/],
  ['several at once', { to: TO, nope: 1, ttl: 256, rate: null }, 'CONFIG', /'rate' is null; .*'ttl' is 256; .*unknown option 'nope'/],
  ['an unknown backend', { to: TO, backend: 'sctp' }, 'CONFIG', /'backend' is "sctp"; must be 'auto', 'ibverbs', 'rdma-ud', 'udp', 'tcp'/],
  ['a file that cannot be', { to: TO, backend: 'pcap', pcapPath: '/no/such/folder/x.pcap' }, 'BACKEND', /cannot create .*'\/no\/such\/folder\/x\.pcap': ENOENT/],
  ['pcap without a file', { to: TO, backend: 'pcap' }, 'CONFIG', /'pcap' needs pcapPath, the file to write/],
  ['a file without pcap', { to: TO, backend: 'dgram', pcapPath: '/tmp/x' }, 'CONFIG', /pcapPath is only for backend 'pcap', not 'dgram'/],
  ['memory without memory', { to: TO, backend: 'udp', memory: {} }, 'CONFIG', /memory is only for backend 'memory', not 'udp'/],
  ['an unknown thread', { to: TO, thread: 'main' }, 'CONFIG', /'thread' is "main"; must be 'worker', 'inline' or an IoThread/],
  ['dgram in a thread', { to: TO, backend: 'dgram', thread: 'worker' }, 'CONFIG', /'dgram' runs on the event loop; leave thread out/],
  ['memory in a thread', { to: TO, backend: 'memory', thread: 'worker' }, 'CONFIG', /'memory' keeps its packets in this thread; leave thread out/],
  ['affinity without a thread', { to: TO, backend: 'memory', affinity: [0] }, 'CONFIG', /affinity is for the I\/O thread, .*leave it out/],
  ['affinity that is no list', { to: TO, affinity: 0 }, 'CONFIG', /'affinity' is 0; must be a list of CPU numbers/],
  ['an affinity of −1', { to: TO, affinity: [-1] }, 'CONFIG', /'affinity\.0' is -1; must be a whole number from 0 to 1023/],
  ['dscp by dgram', { to: TO, backend: 'dgram', dscp: 8 }, 'CONFIG', /'dgram' cannot set dscp, .*leave it out or use backend 'udp'/],
  ['an unknown interface', { to: TO, interface: 'no-such-if' }, 'INTERFACE', /no interface is named 'no-such-if'; there are: /],
  ['an address of no interface', { to: TO, interface: '203.0.113.77' }, 'INTERFACE', /no interface has the address 203\.0\.113\.77; there are: /],
  ['an IPv6 host by an IPv4 interface', { to: '[::1]:7148', interface: '127.0.0.1' }, 'INTERFACE', /127\.0\.0\.1 is an IPv4 address but the endpoints are IPv6; give 'lo'/],
  ...[0, 7, 47, 55, 1e6, -1].map((bytes) => [`packets of ${bytes} bytes`, { to: TO, packetSizeBytes: bytes }, 'PACKET_SIZE', new RegExp(`packetSizeBytes is ${bytes}; it must be from 56, .* to 65507`)] as const),
  ...[1.5, Number.NaN, '1472', null].map((bytes) => [`packets of ${typeof bytes} ${bytes} bytes`, { to: TO, packetSizeBytes: bytes }, 'CONFIG', /'packetSizeBytes' is .*; must be a (whole )?number of bytes/] as const),
  ...[Number.NaN, '40', '40GB', 'fast', -1, Number.POSITIVE_INFINITY, '-1Gbps', '1e400Gbps', true].map((rate) => [`a rate of ${typeof rate} ${rate}`, { to: TO, rate }, 'CONFIG', /rate'? (is|'.*' (has no (number|known unit)|is (negative|too large))).*(bytes (a|per) second|write it as 10Gbps)/] as const),
  ['a burst of 0', { to: TO, burstBytes: 0 }, 'CONFIG', /'burstBytes' is 0; must be a whole number from 1/],
  ...[0.5, Number.NaN, '2'].map((ratio) => [`a burst rate ratio of ${typeof ratio} ${ratio}`, { to: TO, burstRateRatio: ratio }, 'CONFIG', /'burstRateRatio' is .*; must be (a number from|at least) 1/] as const),
  ['an unknown split', { to: TO, split: 'equal' }, 'CONFIG', /'split' is "equal"; must be 'even', 'greedy' or/],
  ['a split without pointers', { to: TO, split: { payloadBytes: 8 } }, 'CONFIG', /'split\.pointers' is missing/],
  ['an unknown pointer', { to: TO, split: { payloadBytes: 8, pointers: ['heap-id'] } }, 'CONFIG', /'split\.pointers\.0' is "heap-id"; must be 'heap-cnt'/],
  ['a flavour that is none', { to: TO, flavour: { heapAddressBits: 47 } }, 'CONFIG', /heapAddressBits is 47; it must be one of 8, 16/],
  ['a flavour that is a number', { to: TO, flavour: 48 }, 'CONFIG', /'flavour' is 48; must be an object/],
  ['unknown bug compatibility', { to: TO, flavour: { bugCompat: BUG_COMPAT.PYSPEAD_0_5_2 + 1 } }, 'CONFIG', /bugCompat is 8; it must be a sum of BUG_COMPAT flags/],
  ...[-1, 1.5, 2 ** 48, 2n ** 48n, Number.NaN].map((cnt) => [`a first cnt of ${typeof cnt} ${cnt}`, { to: TO, firstCnt: cnt }, Number.isNaN(cnt) ? 'CONFIG' : 'HEAP_CNT', Number.isNaN(cnt) ? /'firstCnt' is NaN; must be a whole number/ : WHOLE_48] as const),
  ['a first cnt that is text', { to: TO, firstCnt: '1' }, 'CONFIG', /'firstCnt' is "1"; must be a whole number/],
  ['a step of 0', { to: TO, cntStep: 0 }, 'HEAP_CNT', /heap cnt step is 0; every heap needs its own cnt/],
  ['a cnt beyond a small flavour', { to: TO, flavour: { heapAddressBits: 8 }, firstCnt: 256 }, 'HEAP_CNT', /heap cnt of SPEAD-64-8 is 256; .* from 0 to 2\^8 − 1/],
  ['unknown descriptors', { to: TO, descriptors: 'always' }, 'CONFIG', /'descriptors' is "always"; must be 'first', 'in-band'/],
  ...[0, -1, Number.NaN, '1'].map((everySeconds) => [`descriptors every ${typeof everySeconds} ${everySeconds} s`, { to: TO, descriptors: { everySeconds } }, 'CONFIG', /'descriptors\.everySeconds' is .*; must be (at least 0\.001|a number of seconds)/] as const),
  ['unknown onError', { to: TO, onError: 'again' }, 'CONFIG', /'onError' is "again"; must be 'fail', 'skip', 'retry'/],
  ['an unknown option inside onError', { to: TO, onError: { policy: 'retry', seconds: 1 } }, 'CONFIG', /'onError\.seconds'; known ones: policy, firstBackoffSeconds/],
  ['an unknown option inside one of onError', { to: TO, onError: [{ policy: 'retry', seconds: 1 }] }, 'CONFIG', /'onError\.0\.seconds'; known ones: policy, firstBackoffSeconds/],
  ['onError for other endpoints', { to: TO, onError: ['skip', 'retry'] }, 'CONFIG', /onError has 2 entries for 1 endpoint; give one for each, or one for all/],
  ['onError for no endpoint', { to: TO, onError: [] }, 'CONFIG', /onError has 0 entries for 1 endpoint/],
  ['retry over TCP', { to: `tcp://${TO}`, onError: 'retry' }, 'CONFIG', /onError 'retry' posts packets again.*use tcp\.reconnect 'retry'/],
  ...[-1, Number.NaN, '1'].map((forSeconds) => [`retries for ${typeof forSeconds} ${forSeconds} s`, { to: TO, onError: { policy: 'retry', forSeconds } }, 'CONFIG', /'onError\.forSeconds' is .*; must be (from 0 up|a number of seconds)/] as const),
  ['a TTL of 256', { to: TO, ttl: 256 }, 'CONFIG', /'ttl' is 256; must be a whole number from 0 to 255/],
  ['a DSCP of 64', { to: TO, dscp: 64 }, 'CONFIG', /'dscp' is 64; must be a whole number from 0 to 63/],
  ['a source port of 70000', { to: TO, sourcePort: 70_000 }, 'CONFIG', /'sourcePort' is 70000; must be a whole number from 0 to 65535/],
  ['a negative send buffer', { to: TO, sendBufferBytes: -1 }, 'CONFIG', /'sendBufferBytes' is -1; must be a whole number from 0/],
  ['a negative neighbour timeout', { to: TO, neighbourTimeoutMs: -1 }, 'CONFIG', /'neighbourTimeoutMs' is -1; must be a whole number from 0/],
  ['unknown udpPath', { to: TO, udpPath: 'raw' }, 'CONFIG', /'udpPath' is "raw"; must be 'auto', 'io_uring' or 'sendmmsg'/],
  ['udpPath of another backend', { to: TO, backend: 'dgram', udpPath: 'io_uring' }, 'CONFIG', /udpPath is only for backend 'udp', not 'dgram'/],
  ...IGNORED.flatMap(([name, value, backends]) => backends.map((backend) => [`${name} with ${backend}, which would ignore it`, withBackend(backend, { [name]: value }), 'CONFIG', new RegExp(`^${name} is (only for backends? '.*', not '${backend}'|of (UDP|multicast groups).*); leave it out`)] as const)),
  ...['[fe80::1]:7148', '[ff12::1]:7148'].map((to) => [`${to} without a zone, by dgram`, { to, backend: 'dgram' }, 'INTERFACE', /is link-local, it needs an interface: give one as option, or as zone/] as const),
  ['unknown segmentation', { to: TO, segmentation: 'on' }, 'CONFIG', /'segmentation' is "on"; must be 'auto' or 'off'/],
  ...['repeatPointers', 'multicastLoop', 'allowFragmentation', 'debug'].map((name) => [`${name} that is no boolean`, { to: TO, [name]: 'yes' }, 'CONFIG', new RegExp(`'${name}' is "yes"; must be true or false`)] as const),
] // biome-ignore format: a table

interface Given {
  readonly stream: Stream
  readonly batch: SampleBatch
  /** A batch of another stream. */
  readonly foreign: SampleBatch
}

const batchOf = <G>(items: ItemGroup<G>) => ({ items, heaps: 2 })
const samplesOf = (value: unknown, shape: readonly number[] = [10]) =>
  new Item({ id: 0x3300, name: 'x', dtype: '<i2', shape, value: untyped(value) })
const send = (item: Item) => (given: Given) => given.stream.sendHeap(new Heap().addItem(item))
const create = (options: unknown) => (given: Given) => given.stream.createBatch(untyped<BatchOptions>(options))
const heapsOf =
  (list: unknown, ...rest: unknown[]) =>
  ({ stream }: Given) =>
    stream.sendHeaps(untyped(list), ...untyped<['serial']>(rest))
const sendHeap =
  (options: unknown, heap: unknown = numberHeap(99)) =>
  ({ stream }: Given) =>
    stream.sendHeap(untyped(heap), untyped(options))
const sendBatch =
  (options: unknown) =>
  ({ stream, batch }: Given) =>
    stream.send(batch, untyped(options))
const staged = (value: number) => ({ stream, batch }: Given) => {
  batch.immediate('timestamp')[1] = value
  return stream.send(batch)
} // biome-ignore format: one line each
const cntOf = (value: number) => ({ stream, batch }: Given) => {
  batch.cnts[1] = value
  return stream.send(batch)
} // biome-ignore format: one line each

/** A typed array whose memory went to another thread. */
function detached(): Int16Array {
  const array = new Int16Array(10)
  const { port1 } = new MessageChannel()
  port1.postMessage(array.buffer, [array.buffer])
  port1.close()
  return array
}

const region = (bytes: number) => untyped<Region>({ byteLength: bytes })

const CALLS: readonly (readonly [what: string, call: (given: Given) => unknown, code: string, message: RegExp])[] = [
  ['createBatch without options', create(undefined), 'CONFIG', /createBatch: the options are undefined; give an object of items, heaps/],
  ['createBatch with an unknown option', create({ ...batchOf(itemsOf()), heap: 1 }), 'CONFIG', /unknown option 'heap'; known ones: items, heaps/],
  ['a batch without items', create({ heaps: 2 }), 'CONFIG', /items is undefined; it must be an ItemGroup/],
  ['a batch of a list of items', create({ items: [new Item({ id: 0x3300, name: 'x', dtype: 'i1' })], heaps: 2 }), 'CONFIG', /items is an array of 1; it must be an ItemGroup/],
  ['a batch of no items', create({ items: new ItemGroup(), heaps: 2 }), 'ITEM', /item group is empty; add\(\) at least one/],
  ...[0, -1, 1.5, 2 ** 24, 2 ** 40, Number.NaN, '2', undefined].map((heaps) => [`a batch of ${typeof heaps} ${heaps} heaps`, create({ items: itemsOf(), heaps }), 'CONFIG', new RegExp(`heaps is '?${heaps}'?; it must be a whole number from 1 to 2\\^24 − 1`)] as const),
  ['heaps of 2^40 bytes', create(batchOf(new ItemGroup().add({ id: 0x3300, name: 'x', dtype: 'i1', shape: [2 ** 40] }))), 'SPLIT', /a heap of 1099511627776 bytes makes .* packets .*: send smaller heaps or larger packets/],
  ['heaps of 5 GB', create(batchOf(new ItemGroup().add({ id: 0x3300, name: 'x', dtype: 'i1', shape: [5e9] }))), 'MEMORY', /2 heaps × 5000000000 bytes exceeds 4 GiB; use smaller heaps/],
  ['an item of variable shape in a batch', create(batchOf(new ItemGroup().add({ id: 0x3300, name: 'x', format: [['u', 8]], shape: [null] }))), 'ITEM', /'x' has a variable shape; .*send it with sendHeap/],
  ['item id 0', () => new ItemGroup().add({ id: 0, name: 'x', dtype: 'i1' }), 'ITEM', /item 'x': id is 0; it must be a whole number above 0/],
  ['item id 6', () => new ItemGroup().add({ id: 6, name: 'x', dtype: 'i1' }), 'ITEM', /id 0x6 is one of SPEAD's own .*; take one from 0x400 up/],
  ['item id 0.5', () => new ItemGroup().add({ id: 0.5, name: 'x', dtype: 'i1' }), 'ITEM', /id is 0\.5; it must be a whole number above 0/],
  ['an item id beyond the flavour', create(batchOf(new ItemGroup().add({ id: 0x8000, name: 'x', dtype: 'i1' }))), 'ITEM', /0x8000 does not fit SPEAD-64-48, .*choose a smaller id or fewer heap address bits/],
  ['a dtype that is none', () => new ItemGroup().add({ id: 0x3300, name: 'x', dtype: untyped<'i1'>('int24') }), 'ITEM', /dtype 'int24' cannot be sent; use a numpy scalar type/],
  ['a negative shape', () => new ItemGroup().add({ id: 0x3300, name: 'x', dtype: 'i1', shape: [-1] }), 'ITEM', /shape has a dimension of -1; each must be a whole number from 0 up/],
  ['data shorter than the shape, in a batch', create(batchOf(new ItemGroup().add(samplesOf(new Int16Array(9))))), 'VALUE', /item 'x': shape \(10\) takes 10 elements, 20 bytes; got Int16Array of 9 elements/],
  ['data longer than the shape', send(samplesOf(new Int16Array(11))), 'VALUE', /shape \(10\) takes 10 elements, 20 bytes; got Int16Array of 11 elements/],
  ['data of another shape', send(samplesOf([[1, 2, 3], [4, 5]], [2, 3])), 'VALUE', /shape \(2, 3\) needs 3 values along dimension 1; got 2/],
  ['data out of range', send(samplesOf([0, 0, 0, 40_000, 0, 0, 0, 0, 0, 0])), 'VALUE', /'x'\[3\]: 40000 is out of range for i16 \(-32768 to 32767\)/],
  ['data that is no number', send(samplesOf([0, 0, 0, 0, 0, 0, 0, 0, 0, Number.NaN])), 'VALUE', /'x'\[9\]: NaN is not a whole number/],
  ['an item without a value', send(new Item({ id: 0x3300, name: 'x', dtype: 'i1' })), 'VALUE', /'x' has no value to send: assign one/],
  ['a detached buffer', send(samplesOf(detached())), 'VALUE', /'x': its memory is detached .*: give the item memory that is still there/],
  ['a buffer detached after the heap was made', ({ stream }) => {
    const samples = new Int16Array(10)
    const heap = new Heap().addItem(samplesOf(samples))
    structuredClone(samples.buffer, { transfer: [samples.buffer] })
    return stream.sendHeap(heap)
  }, 'VALUE', /'x': its memory is detached/],
  ['a value that changed its length', ({ stream }) => {
    const item = new Item({ id: 0x3300, name: 'x', format: [['u', 8]], shape: [null], value: () => new Uint8Array(length) })
    let length = 5
    const heap = new Heap().addItem(item)
    length = 6
    return stream.sendHeap(heap)
  }, 'VALUE', /item 'x' was added with 5 bytes and now has 6: add it to a new heap/],
  ['a detached buffer in a batch', create(batchOf(new ItemGroup().add(samplesOf(detached())))), 'VALUE', /'x': its memory is detached/],
  ['a substream beyond', create({ ...batchOf(itemsOf()), substreams: 1 }), 'SUBSTREAM', /substream is 1; the stream has 1 endpoint, 0 to 0/],
  ['too few substreams', create({ ...batchOf(itemsOf()), substreams: [0] }), 'SUBSTREAM', /substream is undefined; the stream has 1 endpoint/],
  ['substreams that are none', create({ ...batchOf(itemsOf()), substreams: () => 'first' }), 'SUBSTREAM', /substream is 'first'; the stream has 1 endpoint/],
  ['rates without a rate', create({ ...batchOf(itemsOf()), rates: [1, 1] }), 'CONFIG', /rates per heap need a stream with a rate; give openStream a rate/],
  ['an unknown group mode', create({ ...batchOf(itemsOf()), groupMode: 'random' }), 'CONFIG', /group mode is 'random'; it must be 'serial', 'round-robin' or 'by-substream'/],
  ['memory that is none', create({ ...batchOf(itemsOf()), memory: null }), 'CONFIG', /memory is null; it must be an object of \{ region/],
  ['memory of an unknown item', create({ ...batchOf(itemsOf()), memory: { samples: { region: region(1000) } } }), 'ITEM', /no item of name 'samples' in the group; it has 'timestamp'/],
  ['memory of an immediate', create({ ...batchOf(itemsOf()), memory: { timestamp: { region: region(1000) } } }), 'MEMORY', /'timestamp' is sent as an immediate, .*; leave it out/],
  ['memory that is no region', create({ ...batchOf(itemsOf()), memory: { adc_samples: { region: new Int8Array(200) } } }), 'MEMORY', /region is .*; it must be a Region, from Region\.fromFd/],
  ['a heap beyond the batch', ({ batch }) => batch.heap(2), 'VALUE', /heap index 2 is not below the batch's 2 heaps/],
  ['an unknown immediate', ({ batch }) => batch.immediate('adc_samples'), 'ITEM', /no immediate item 'adc_samples'; it has 'timestamp'/],
  ['an unknown item', ({ batch }) => batch.item(untyped<'adc_samples'>('samples')), 'ITEM', /no addressed item 'samples'; it has 'adc_samples'/],
  ['an immediate’s views', ({ batch }) => batch.item(untyped<'adc_samples'>('timestamp')), 'ITEM', /'timestamp' is an immediate, .*: immediate\('timestamp'\)/],
  ...[-1, 0.5, 2 ** 48, Number.NaN, Number.POSITIVE_INFINITY].map((value) => [`an immediate of ${value}`, staged(value), 'VALUE', new RegExp(`'timestamp' of heap 1 is ${value}; it must be a whole number from 0 to 281474976710655`)] as const),
  ...[-2, 0.5, 2 ** 48, Number.NaN].map((value) => [`a cnt of ${value} in a batch`, cntOf(value), 'HEAP_CNT', new RegExp(`heap cnt of heap 1 is ${value}; .*${WHOLE_48.source}, or −1`)] as const),
  ['send of nothing', ({ stream }) => stream.send(untyped<SampleBatch>(undefined)), 'BATCH_STATE', /the batch is undefined; give one from createBatch/],
  ['send of a batch of another stream', ({ stream, foreign }) => stream.send(foreign), 'BATCH_STATE', /belongs to another stream; give one from createBatch of this/],
  ['send of a closed batch', ({ stream, batch }) => {
    batch.close()
    return stream.send(batch)
  }, 'BATCH_STATE', /the batch is closed; give one from createBatch/],
  ['send of a batch under way', ({ stream, batch }) => {
    stream.send(fill(batch, 10))
    return stream.send(batch)
  }, 'BATCH_STATE', /still in flight; await batch\.free first/],
  ['closing a batch under way', ({ stream, batch }) => {
    stream.send(fill(batch, 10))
    return batch.close()
  }, 'BATCH_STATE', /the batch is in flight; await batch\.free first/],
  ...[null, 2, 'all', []].map((options) => [`send with options ${JSON.stringify(options)}`, sendBatch(options), 'CONFIG', /send: the options are .*; give an object of heaps, signal/] as const),
  ['send with an unknown option', sendBatch({ heap: 1 }), 'CONFIG', /send: unknown option 'heap'; known ones: heaps, signal/],
  ...[0, -1, 1.5, 3, Number.NaN, '1'].map((heaps) => [`send of ${typeof heaps} ${heaps} heaps`, sendBatch({ heaps }), 'VALUE', new RegExp(`heaps is '?${heaps}'?; the batch has 1 to 2`)] as const),
  ...[null, 5, {}, new AbortController()].map((signal) => [`send with ${signal} for signal`, sendBatch({ signal }), 'CONFIG', /send: signal is .*; it must be an AbortSignal/] as const),
  ...[null, undefined, {}, 'heap', new Uint8Array(8)].map((heap) => [`sendHeap of ${typeof heap} ${heap}`, ({ stream }: Given) => stream.sendHeap(untyped(heap)), 'VALUE', /heap is .*; it must be a Heap, from new Heap\(\) or ItemGroup\.getHeap\(\)/] as const),
  ...[null, 5, [1]].map((options) => [`sendHeap with options ${JSON.stringify(options)}`, sendHeap(options), 'CONFIG', /sendHeap: the options are .*; give an object of cnt, substream/] as const),
  ['sendHeap with an unknown option', sendHeap({ heaps: 1 }), 'CONFIG', /sendHeap: unknown option 'heaps'; known ones: cnt, substream/],
  ...[-2, 0.5, 2 ** 48, Number.NaN].map((cnt) => [`sendHeap with a cnt of ${cnt}`, sendHeap({ cnt }), 'HEAP_CNT', new RegExp(`heap cnt of heap 0 is ${cnt}; .*${WHOLE_48.source}`)] as const),
  ...[5n, '5', null].map((cnt) => [`sendHeap with a cnt of ${typeof cnt} ${cnt}`, sendHeap({ cnt }), 'HEAP_CNT', /cnt is .*; it must be a number/] as const),
  ...[1, -1, 0.5, '0'].map((substream) => [`sendHeap to substream ${typeof substream} ${substream}`, sendHeap({ substream }), 'SUBSTREAM', new RegExp(`substream is '?${substream}'?; the stream has 1 endpoint, 0 to 0`)] as const),
  ...[Number.NaN, -2, '1'].map((rateBytesPerSecond) => [`sendHeap at ${typeof rateBytesPerSecond} ${rateBytesPerSecond}`, sendHeap({ rateBytesPerSecond }), 'CONFIG', /heap rate is .*; it must be bytes per second/] as const),
  ['sendHeap at a rate where the stream has none', sendHeap({ rateBytesPerSecond: 1e6 }), 'CONFIG', /heap rate is 1000000, but the stream has none: .*give openStream one/],
  ['sendHeap with 5 for signal', sendHeap({ signal: 5 }), 'CONFIG', /signal is 5; it must be an AbortSignal/],
  ['a heap whose item does not fit the flavour', () => new Heap().addRaw({ id: 0x8000, bytes: new Uint8Array(1), allowImmediate: true }), 'ITEM', /0x8000 does not fit SPEAD-64-48/],
  ['a heap with a pointer of the packet’s own', () => new Heap().addRaw({ id: 3, bytes: new Uint8Array(1), allowImmediate: true }), 'ITEM', /0x3 stands in every packet already .*: use another/],
  ...[undefined, null, 5, {}].map((list) => [`sendHeaps of ${JSON.stringify(list)}`, heapsOf(list, 'serial'), 'VALUE', /is no list; give it at least one \{ heap \}/] as const),
  ['sendHeaps of no heap', heapsOf([], 'serial'), 'VALUE', /the list is empty; give it at least one \{ heap \}/],
  ['sendHeaps of heaps that are no references', heapsOf([numberHeap(1)], 'serial'), 'CONFIG', /unknown option .*; known ones: heap, cnt/],
  ['sendHeaps with a hole', heapsOf([{ heap: numberHeap(1) }, null], 'serial'), 'CONFIG', /the options are null; give an object of heap, cnt/],
  ['sendHeaps without a mode', heapsOf([{ heap: numberHeap(1) }]), 'CONFIG', /group mode is undefined; it must be 'serial', 'round-robin' or 'by-substream'/],
  ['sendHeaps with an unknown option', heapsOf([{ heap: numberHeap(1) }], 'serial', { heaps: 1 }), 'CONFIG', /unknown option 'heaps'; known ones: signal/],
  ['sendHeaps of two flavours', heapsOf([{ heap: numberHeap(1) }, { heap: new Heap({ heapAddressBits: 40, bugCompat: 0 }).addStart() }], 'serial'), 'CONFIG', /SPEAD-64-48 and of 64-40; .*send them one by one/],
  ...[[-1, 1], [0.5, 1], [2 ** 48, 1], [2n ** 48n, 1], [Number.NaN, 1], [undefined, 1], [1, -1], [1, 0.5], [1, 2 ** 48]].map(([next, step]) => [`a cnt sequence from ${next} by ${step}`, ({ stream }: Given) => stream.setCntSequence(untyped(next), untyped(step)), 'HEAP_CNT', WHOLE_48] as const),
  ['a cnt sequence that stands still', ({ stream }) => stream.setCntSequence(1, 0), 'HEAP_CNT', /step is 0; every heap needs its own cnt/],
  ...[null, 5].map((options) => [`close with options ${options}`, ({ stream }: Given) => stream.close(untyped(options)), 'CONFIG', /close: the options are .*; give an object of deadlineSeconds/] as const),
  ['close with an unknown option', ({ stream }) => stream.close(untyped({ deadline: 1 })), 'CONFIG', /close: unknown option 'deadline'; known ones: deadlineSeconds/],
  ...[-1, Number.NaN, '1', null].map((deadlineSeconds) => [`close with a deadline of ${typeof deadlineSeconds} ${deadlineSeconds}`, ({ stream }: Given) => stream.close(untyped({ deadlineSeconds })), 'CONFIG', /deadlineSeconds is .*; it must be a number of seconds from 0 up/] as const),
] // biome-ignore format: a table

async function errorOf(call: () => unknown): Promise<unknown> {
  try {
    await call()
  } catch (error) {
    return error
  }
  return undefined
}

function expectError(error: unknown, code: string, message: RegExp): void {
  expect(error).toBeInstanceOf(Error)
  const { name, code: got, message: text } = error as SpeadcastError
  expect({ name, code: got, text }).toEqual({
    name: 'SpeadcastError',
    code: `ERR_SPEADCAST_${code}` satisfies string as ErrorCode,
    text: expect.stringMatching(message),
  })
}

describe('openStream', () => {
  test.for(OPEN)('%s', async ([, options, code, message], ctx) => {
    need(ctx, process.platform === 'linux', 'the default backend and the interfaces are those of Linux')
    expectError(await errorOf(() => openStream(options as StreamOptions)), code, message)
  })

  test('leaves no thread and no descriptor behind', async (ctx) => {
    need(ctx, process.platform === 'linux', 'counts through /proc')
    const { readdirSync } = await import('node:fs')
    // Node tells of a thread a tick after it was started, which another test did.
    await new Promise(setImmediate)
    const threads: unknown[] = []
    const onWorker = (worker: unknown) => threads.push(worker)
    process.on('worker', onWorker)
    onTestFinished(() => void process.off('worker', onWorker))
    const open = () => errorOf(() => openStream({ to: '127.0.0.1:7148', backend: 'udp', affinity: [1023] }))
    await open()
    const before = readdirSync('/proc/self/fd').length
    for (let i = 0; i < 5; i++) expectError(await open(), 'CONFIG', /affinity: none of CPUs 1023 may be used here/)
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(readdirSync('/proc/self/fd').length).toBeLessThanOrEqual(before)
    // It waits for the next stream that says the same.
    expect(threads).toHaveLength(1)
  })
})

describe.for(['memory', 'udp'] as const)('%s: what was queued before arrives, what is sent after too', (kind) => {
  test.for(CALLS)('%s', async ([name, call, code, message], ctx) => {
    // Slow enough that a batch is under way until the next call.
    const slow = /batch under way/.test(name) ? { rate: '200kB/s' as const, burstBytes: 1 } : {}
    const { stream, packets } = await openOutlet(ctx, kind, { descriptors: 'none', ...slow })
    const other = await openOutlet(ctx, 'memory')
    const batches = [0, 2].map((first) => fill(stream.createBatch(batchOf(itemsOf())), first))
    const foreign = other.stream.createBatch(batchOf(itemsOf()))
    const given: Given = { stream, batch: stream.createBatch(batchOf(itemsOf())), foreign }
    const before = stream.send(batches[0]!)
    expectError(await errorOf(() => call(given)), code, message)
    const after = stream.send(batches[1]!)
    expect(await Promise.all([before, after])).toMatchObject([{ heaps: 2, firstCnt: 1 }, { heaps: 2 }])
    await stream.close()
    // Rows that have a batch under way sent it: 10 and 11.
    const arrived = timestampsOf(await packets(4)).filter((timestamp) => timestamp !== 10 && timestamp !== 11)
    expect(arrived).toEqual([0, 1, 2, 3])
    expect(stream.stats().heapsFailed).toBe(0)
  })
})

describe('a stream with a rate', () => {
  test.for([
    ['too few rates', [1e6], /rates has 1 entry for 2 heaps; give a list of one for each/],
    ['rates that are no list', 1e6, /rates is 1000000 for 2 heaps; give a list/],
    ['a rate of NaN', [1e6, Number.NaN], /heap rate is NaN; it must be bytes per second, 0 for unlimited or −1/],
    ['a negative rate', [-2, 1e6], /heap rate is -2; it must be bytes per second/],
  ] as const)('%s', async ([, rates, message], ctx) => {
    const { stream } = await openOutlet(ctx, 'memory', { rate: '1GB/s' })
    expectError(await errorOf(() => create({ ...batchOf(itemsOf()), rates })({ stream } as Given)), 'CONFIG', message)
  })
})

describe('an exact layout', () => {
  const pointers: ExactPointer[] = ['heap-cnt', 'payload-offset', { item: 0x1600 }, { item: 0x3300 }]
  test.for([
    ['of no payload', { payloadBytes: 0, pointers }, /payloadBytes is 0 but the items have 100 bytes: set payloadBytes/],
    [
      'without the heap cnt',
      { payloadBytes: 50, pointers: pointers.slice(1) },
      /cannot be put together without 'heap-cnt': add it/,
    ],
    ['of an item there is not', { payloadBytes: 50, pointers: [...pointers, { item: 0x1601 }] }, /0x1601/],
  ] as const)('%s', async ([, split, message], ctx) => {
    const { stream } = await openOutlet(ctx, 'memory', { split: split as StreamOptions['split'] & object })
    const error = await errorOf(() => create(batchOf(itemsOf()))({ stream } as Given))
    expectError(error, 'SPLIT', message)
  })

  test('of a payload larger than the heap is no mistake: the heap’s is taken', async (ctx) => {
    const { stream } = await openOutlet(ctx, 'memory', { split: { payloadBytes: 65507, pointers } })
    expect(await errorOf(() => create(batchOf(itemsOf()))({ stream } as Given))).toBeUndefined()
  })
})
