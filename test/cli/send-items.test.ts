// Items of `speadcast send` that the flags describe: what cannot be sent is refused in words of the flags, and heaps may have no samples at all.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { itemList } from '#dist/src/cli/send/item-flags.js'
import { sendItems } from '#dist/src/cli/send/items.js'
import { datagramsOf, pointersOf, runJson, temporaryFolder } from '../support/cli.js'

const U48 = [['u', 48]] as const

test.for([
  [{ firstTimestamp: 2 ** 48 }, /--first-timestamp is 281474976710656, and item timestamp holds numbers up to 281474976710655/],
  [{ timestampStep: 2 ** 48 }, /--timestamp-step is 281474976710656/],
  [{ firstTimestamp: 256, heapAddressBits: 8 }, /--first-timestamp is 256, and item timestamp holds numbers up to 255;/],
  [{ firstTimestamp: 2 ** 31, timestampFormat: [['i', 32]] }, /holds numbers up to 2147483647;/],
  [{ firstTimestamp: 2 ** 24, timestampFormat: [['f', 32]] }, /holds numbers up to 16777215;/],
  [{ timestampFormat: [['u', 64]] }, /at most 48 bits in whole bytes, such as u48; item timestamp has 64 bits/],
  [{ timestampFormat: [['u', 10]] }, /in whole bytes, such as u48; item timestamp has 10 bits/],
  [{ timestampFormat: U48, heapAddressBits: 40 }, /at most 40 bits in whole bytes, such as u40; item timestamp has 48 bits/],
  [{ item: itemList('a:0x1600:<i2:4x4') }, /item a has 256 bits/],
  [{ item: itemList('a:0x1600:<f2:') }, /item a has a float of 16 bits/],
  [{ timestampId: 0x3300 }, /--timestamp-id 0x3300 is the id of the samples/],
  [{ timestampId: 0x3303, items: 4 }, /--timestamp-id 0x3303 is the id of the samples/],
  [{ item: itemList('a:0x4300:<i2:4=99999999') }, /--item a: its VALUE is one number, 99999999, so it can have no SHAPE/],
] as const)('%j is refused', ([flags, says]) => {
  expect(() => sendItems(flags)).toThrow(says)
})

test.for([
  [{ firstTimestamp: 2 ** 48 - 1 }, 2 ** 48],
  [{ firstTimestamp: 255, heapAddressBits: 8 }, 256],
  [{ firstTimestamp: 2 ** 31 - 1, timestampFormat: [['i', 32]] }, 2 ** 31],
  [{ timestampId: 0x3304, items: 4 }, 2 ** 48],
] as const)('%j is sent, and wraps at %d', ([flags, modulo]) => {
  expect(sendItems(flags).timestamp.modulo).toBe(modulo)
})

test.for([
  ['=281474976710655', 2 ** 48 - 1],
  ['=0xffffffffffffffff', 2n ** 64n - 1n],
  ['=-9223372036854775808', -(2n ** 63n)],
  ['=+18446744073709551615', 2n ** 64n - 1n],
  ['=1e300', 1e300],
] as const)('VALUE %s is %d, to the last digit', ([text, value]) => {
  expect(itemList(`a:0x4300:<u8${text}`)[0]!.value).toBe(value)
})

test.for([
  ['a:0x4300:u48=abc', 'abc'],
  ['a:0x4300:<f4=nan', 'nan'],
  ['a:0x4300:=i2=-inf', '-inf'],
  ['a:0x4300:?=true', 'true'],
  ['a:0x4300:u48=', ''],
  ['a:0x4300:i2:4=x', 'x'],
] as const)('%s: the VALUE is told to be no number', ([text, value]) => {
  expect(() => itemList(text)).toThrow(`its VALUE is '${value}', which is no decimal or hexadecimal number; write NAME:ID:TYPE`)
})

test.for(['=i2', 'i2,=i4', '[("a=b","=i2")]', "{'names':['a'],'formats':['=i2']}"])('TYPE %s has no VALUE', (dtype) => {
  expect(itemList(`a:0x4300:${dtype}`)).toEqual([{ name: 'a', id: 0x4300, type: { dtype }, shape: 'rest' }])
})

test('a format without a SHAPE is one element, so --heap-size is told what would let it decide', () => {
  expect(() => sendItems({ item: itemList('a:0x4300:u1,i7'), heapSize: 201 })).toThrow(
    "--heap-size 201: the items' shapes make 0 bytes a heap; leave it out, or leave out the SHAPE of a dtype, because a format without one has one element",
  )
})

test.for([
  ['a:0x1600:u48', 48],
  ['a:0x4300:u48=3', 48],
])('heaps without samples are sent: --item %s', async ([item]) => {
  const path = join(temporaryFolder(), 'x.pcap')
  const args = ['send', '10.0.0.5:7148', '-n', '5', '--item', item as string, '--timestamp-step', '7', '--pcap', path]
  const { code, stderr, json } = await runJson(args)
  expect({ code, stderr, json }).toMatchObject({ code: 0, stderr: '', json: { heaps: 5, payloadBytes: 0 } })
  const pointers = datagramsOf(readFileSync(path)).map(({ payload }) => pointersOf(payload))
  const values = (id: number) => pointers.flatMap((all) => all.filter((one) => one.id === id).map(({ value }) => value))
  expect(values(0x1600)).toEqual([0, 7, 14, 21, 28])
  expect(values(0x4300)).toEqual(item === 'a:0x4300:u48=3' ? [3, 3, 3, 3, 3] : [])
})
