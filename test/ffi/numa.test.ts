/** Memory bound to a NUMA node, as the kernel tells of it. Node 0 is there on every machine. */
import { readFileSync } from 'node:fs'
import { beforeEach, expect, test } from 'vitest'
import { koffi } from '#dist/ffi/koffi.js'
import { SYS_set_mempolicy } from '#dist/ffi/layout.js'
import { libc, nativeCallsWork } from '#dist/ffi/libc.js'
import { ANY_NODE, bindingRefused, bindShared, nodeOfPage, onNode } from '#dist/ffi/memory/numa.js'
import { Region } from '#dist/ffi/memory/region.js'
import { mapReceiveMemory, recycleReceiveMemory } from '#dist/ffi/socket/recvmmsg.js'
import { need } from '../support/need.js'
import { allocate, bytesOf, isAll, KIB, MIB } from '../support/regions.js'

beforeEach((ctx) => {
  need(ctx, process.platform === 'linux' && nativeCallsWork(), 'NUMA policies are Linux’s')
  const refused = bindingRefused(0)
  need(ctx, refused === undefined, `${refused}`)
})

/** The policy of the mapping that holds `address` (numa_maps in proc(5)). */
function policyAt(address: number): string {
  const lines = readFileSync('/proc/self/numa_maps', 'latin1').trim().split('\n')
  const found = lines.map((line) => line.split(' ')).findLast(([start]) => Number.parseInt(start!, 16) <= address)
  return found![1]!
}

test.for([1, 100_000, 512 * KIB, 2 * MIB, 5 * MIB])('%d bytes for node 0 are its, zeroed, and writable to the last', (bytes) => {
  for (const patched of [false, true]) {
    const region = allocate(bytes, { numaNode: 0, patched })
    expect(region.numaNode).toBe(0)
    for (const at of [region.address, region.address + region.byteLength - 1]) {
      expect(nodeOfPage(at)).toBe(0)
      expect(policyAt(at)).toMatch(/^prefer.*:0$/)
    }
    const view = bytesOf(region)
    expect(isAll(view, 0)).toBe(true)
    view.fill(0xa5)
    expect(isAll(view, 0xa5)).toBe(true)
  }
})

test.for([100_000, 3 * MIB])('%d bytes given back are bound anew, or to nowhere, for the next owner', (bytes) => {
  const policyOf = (options: object): string => {
    const region = Region.allocate(bytes, options)
    const policy = policyAt(region.address)
    bytesOf(region).fill(1)
    region.release()
    return policy
  }
  for (let i = 0; i < 3; i++) {
    expect(policyOf({ numaNode: 0 })).toMatch(/^prefer.*:0$/)
    expect(policyOf({})).toBe('default')
  }
  expect(isAll(bytesOf(allocate(bytes, {})), 0)).toBe(true)
})

test.for([-1, 0.5, Number.NaN, 1024, 1e9, '0', null, {}])('node %o is no node', (numaNode) => {
  expect(() => Region.allocate(4096, { numaNode: numaNode as number })).toThrow(
    expect.objectContaining({
      code: 'ERR_SPEADCAST_CONFIG',
      message: expect.stringMatching(/numaNode is .*; it must be a whole number from 0 to 1023/),
    }),
  )
})

test('a node that the machine has not is refused by name, and what comes next works', () => {
  expect(() => Region.allocate(4096, { numaNode: 1023 })).toThrow(
    expect.objectContaining({
      code: 'ERR_SPEADCAST_MEMORY',
      message: expect.stringMatching(/numaNode is 1023: mbind failed: EINVAL .*; there is no such node/),
    }),
  )
  expect(nodeOfPage(allocate(4096, { numaNode: 0 }).address)).toBe(0)
})

test('what is mapped on a node is bound to it, from pools too, and what comes after it is not, whatever was thrown', () => {
  bytesOf(allocate(100_000, {})).fill(1)
  const regions = onNode(0, () => [allocate(2 * MIB, { hugePages: 'never' }), allocate(100_000, {})])
  for (const { address, numaNode } of regions) {
    expect(nodeOfPage(address)).toBe(0)
    expect(policyAt(address)).toMatch(/^prefer.*:0$/)
    expect(numaNode).toBeUndefined()
  }
  const fail = () => {
    throw new Error('no')
  }
  expect(() => onNode(0, fail)).toThrow('no')
  expect(policyAt(allocate(100_000, {}).address)).toBe('default')
})

test('the policy that a thread has, as numactl gives one, is its own again behind what is mapped on a node', () => {
  const MPOL_INTERLEAVE = 3
  const mask = allocate(4096, {})
  bytesOf(mask)[0] = 1
  const set = (mode: number, address: number, bits: number) => libc().syscall(SYS_set_mempolicy, mode, address, bits, 0, 0, 0)
  expect(set(MPOL_INTERLEAVE, mask.address, 64)).toBe(0)
  try {
    expect(policyAt(onNode(0, () => allocate(2 * MIB, { hugePages: 'never' })).address)).toMatch(/^prefer.*:0$/)
    expect(policyAt(allocate(2 * MIB, { hugePages: 'never' }).address)).toBe('interleave:0')
  } finally {
    set(0, 0, 0)
  }
})

test('words that threads share are bound from the first to the last, and keep what they hold; smaller ones stay', () => {
  const words = new Int32Array(new SharedArrayBuffer(300_000)).fill(7)
  const address = Number(koffi().address(words))
  expect(policyAt(address)).toBe('default')
  bindShared(words, ANY_NODE)
  expect(policyAt(address)).toBe('default')
  bindShared(words, 0)
  for (const at of [address, address + words.byteLength - 1]) {
    expect(policyAt(at)).toMatch(/^prefer.*:0$/)
    expect(nodeOfPage(at)).toBe(0)
  }
  expect(words.every((word) => word === 7)).toBe(true)
  const few = new Int32Array(new SharedArrayBuffer(64))
  bindShared(few, 0)
  expect(policyAt(Number(koffi().address(few)))).toBe('default')
})

test('memory of receivers is bound before it is touched, and anew, or to nowhere, for the next one', () => {
  const policyOf = (node?: number): string => {
    const memory = mapReceiveMemory(1 * MIB, undefined, node)
    const policy = policyAt(memory.address)
    new Uint8Array(koffi().view(BigInt(memory.address), memory.byteLength) as ArrayBuffer).fill(1)
    recycleReceiveMemory(memory)
    return policy
  }
  for (let i = 0; i < 2; i++) {
    expect(policyOf(0)).toMatch(/^prefer.*:0$/)
    expect(policyOf()).toBe('default')
  }
})
