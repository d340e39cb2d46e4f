import { describe, expect, it } from 'vitest'
import { Item } from '#dist/src/spead/item.js'
import { ItemGroup } from '#dist/src/spead/item-group.js'

const u16 = [['u', 16]] as const

/** Lists the contents of a heap, in order: 'd:name' descriptors and 'v:name' values. */
const contents = (group: ItemGroup, selection = {}): string =>
  group
    .getHeap(selection)
    .entries.map(({ kind, name }) => `${kind === 'descriptor' ? 'd' : 'v'}:${name}`)
    .join(' ')

describe('Item', () => {
  it('counts versions by assignment', () => {
    const item = new Item({ id: 0x1000, name: 'x', dtype: 'u1' })
    expect([item.version, item.value]).toEqual([1, undefined])
    item.value = 5
    item.value = 5
    expect([item.version, item.value]).toEqual([3, 5])
    item.value = null
    expect([item.version, item.value]).toEqual([4, undefined])
    expect(new Item({ id: 0x1000, name: 'x', dtype: 'u1', value: 0 }).value).toBe(0)
  })
})

describe('ItemGroup', () => {
  it('finds items by name and id, in the order they were added', () => {
    const group = new ItemGroup().add({ id: 0x1600, name: 'timestamp', format: [['u', 48]] }).add({ name: 'b', dtype: 'u1' })
    expect(group.items().map(({ id, name }) => [id, name])).toEqual([
      [0x1600, 'timestamp'],
      [0x1000, 'b'],
    ])
    expect(group.get('timestamp')).toBe(group.get(0x1600))
    expect([group.has('b'), group.has(0x1000), group.has('c'), group.has(7)]).toEqual([true, true, false, false])
    expect(() => group.get('c' as never)).toThrow(/no item of name 'c'.*'timestamp' \(0x1600\), 'b' \(0x1000\)/)
    expect(() => group.get(0x77)).toThrow(expect.objectContaining({ code: 'ERR_SPEADCAST_ITEM' }))
  })

  it('gives free ids from 0x1000 up', () => {
    const group = new ItemGroup()
      .add({ id: 0x1001, name: 'a', dtype: 'u1' })
      .add({ name: 'b', dtype: 'u1' })
      .add({ name: 'c', dtype: 'u1' })
    expect(group.items().map(({ id }) => id)).toEqual([0x1001, 0x1000, 0x1002])
  })

  it('passes the value of an identical item on', () => {
    const group = new ItemGroup().add({ id: 0x1000, name: 'a', description: 'd', shape: [2], format: u16 })
    const item = group.get('a')
    group.add({ id: 0x1000, name: 'a', description: 'd', shape: [2], format: [['u', 16]] })
    expect([item.version, item.value]).toEqual([1, undefined])
    group.add({ id: 0x1000, name: 'a', description: 'd', shape: [2], format: u16, value: [1, 2] })
    expect(group.items()).toEqual([item])
    expect([item.version, item.value]).toEqual([2, [1, 2]])
  })

  it('replaces items of the same id or the same name, with a higher version', () => {
    const group = new ItemGroup().add({ id: 0x1000, name: 'a', dtype: 'u1', value: 1 }).add({ id: 0x1001, name: 'b', dtype: 'u1' })
    group.get('a').value = 2
    group.get('a').value = 3
    group.add({ id: 0x1001, name: 'a', dtype: '<u2' })
    expect(group.items().map(({ id, name, version }) => [id, name, version])).toEqual([[0x1001, 'a', 4]])
    expect(group.has(0x1000)).toBe(false)
    expect(group.has('b')).toBe(false)
  })

  it('sends stale descriptors and values only', () => {
    const group = new ItemGroup().add({ name: 'a', format: u16, value: 1 }).add({ name: 'b', format: u16 })
    expect(contents(group)).toBe('d:a v:a d:b')
    expect(contents(group)).toBe('')
    group.get('b').value = 2
    expect(contents(group)).toBe('v:b')
    group.get('a').version++
    expect(contents(group)).toBe('v:a')
    expect(contents(group, { descriptors: 'all', data: 'all' })).toBe('d:a v:a d:b v:b')
    expect(contents(group, { descriptors: 'none', data: 'all' })).toBe('v:a v:b')
    expect(contents(group, { descriptors: 'all', data: 'none' })).toBe('d:a d:b')
    group.get('a').value = 5
    expect(contents(group, { data: 'none' })).toBe('')
    expect(contents(group)).toBe('v:a')
  })

  it('sends a replaced item and its descriptor again', () => {
    const group = new ItemGroup().add({ id: 0x1000, name: 'a', format: u16, value: 1 })
    expect(contents(group)).toBe('d:a v:a')
    group.add({ id: 0x1000, name: 'a', dtype: 'u1', value: 1 })
    expect(contents(group)).toBe('d:a v:a')
    expect(contents(group)).toBe('')
  })

  it('repeats descriptors at the given frequency', () => {
    const group = new ItemGroup({ descriptorFrequency: 3 }).add({ name: 'a', format: u16, value: 1 })
    expect(Array.from({ length: 7 }, () => contents(group))).toEqual(['d:a v:a', '', '', 'd:a', '', '', 'd:a'])
  })

  it('has told nobody anything when a heap could not be made', () => {
    const group = new ItemGroup().add({ name: 'a', format: u16, value: 1 }).add({ name: 'b', format: u16, value: 65536 })
    expect(() => group.getHeap()).toThrow(/'b': 65536 is out of range/)
    group.get('b').value = 65535
    expect(contents(group)).toBe('d:a v:a d:b v:b')
  })

  it('makes heaps of its flavour', () => {
    const flavour = { heapAddressBits: 40, bugCompat: 0 }
    expect(new ItemGroup({ flavour }).getHeap().flavour).toEqual(flavour)
  })

  it('refuses options it does not know', () => {
    const code = expect.objectContaining({ code: 'ERR_SPEADCAST_CONFIG' })
    expect(() => new ItemGroup({ descriptorFrequency: 0 })).toThrow(code)
    expect(() => new ItemGroup({ flavour: { heapAddressBits: 47, bugCompat: 0 } })).toThrow(code)
    expect(() => new ItemGroup().getHeap({ descriptors: 'some' as never })).toThrow(
      /descriptors is 'some'.*'stale', 'all' or 'none'/,
    )
  })
})
