/** Memory that is not the region's own: files that others map, windows, other threads of the process. */
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { nativeCallsWork } from '#dist/ffi/libc.js'
import { attachRegion, Region } from '#dist/ffi/memory/region.js'
import { need } from '../support/need.js'
import { programFile } from '../support/program.js'
import { allocate, bytesOf, isAll, MIB } from '../support/regions.js'
import { sharedFile } from '../support/shared-file.js'

beforeEach((ctx) => need(ctx, process.platform === 'linux' && nativeCallsWork(), 'regions are mapped on Linux only'))

const CONFIG = expect.objectContaining({ code: 'ERR_SPEADCAST_CONFIG' })

describe('fromFd', () => {
  /** Makes a file of `bytes` bytes, byte i being i mod 251. */
  function file(bytes: number, folder = '/dev/shm'): { fd: number; path: string } {
    const directory = mkdtempSync(join(folder, 'speadcast-region-'))
    const path = join(directory, 'file')
    writeFileSync(
      path,
      Uint8Array.from({ length: bytes }, (_, i) => i % 251),
    )
    const fd = openSync(path, 'r+')
    onTestFinished(() => {
      closeSync(fd)
      rmSync(directory, { recursive: true })
    })
    return { fd, path }
  }

  test.for(['/dev/shm', tmpdir()])('sees what others write, and they what it is written (%s)', (folder) => {
    const { fd, path } = file(3 * 4096 + 100, folder)
    const region = Region.fromFd(fd)
    expect(region).toMatchObject({ byteLength: 3 * 4096 + 100, hugePagesRefused: '' })
    const view = bytesOf(region)
    expect(view.length).toBe(3 * 4096 + 100)
    expect(view.every((byte, i) => byte === i % 251)).toBe(true)
    writeSync(fd, Uint8Array.of(255, 254), 0, 2, 4096)
    expect([...view.subarray(4095, 4099)]).toEqual([4095 % 251, 255, 254, 4098 % 251])
    view[view.length - 1] = 200
    const back = new Uint8Array(1)
    readSync(fd, back, 0, 1, view.length - 1)
    expect(back[0]).toBe(200)
    // Another mapping of the file, made by the same process under another descriptor.
    const again = openSync(path, 'r+')
    const other = bytesOf(Region.fromFd(again, { offset: 4096, byteLength: 10 }))
    closeSync(again)
    expect([...other]).toEqual([255, 254, ...Array.from({ length: 8 }, (_, i) => (4098 + i) % 251)])
    other.fill(1)
    expect(view[4100]).toBe(1)
  })

  test('takes a part, from any page, to the last byte of the file and not further', () => {
    const { fd } = file(2 * 4096 + 500)
    const part = bytesOf(Region.fromFd(fd, { offset: 4096 }))
    expect(part.length).toBe(4096 + 500)
    expect([part[0], part.at(-1)]).toEqual([4096 % 251, (2 * 4096 + 499) % 251])
    expect(bytesOf(Region.fromFd(fd, { offset: 8192, byteLength: 500 })).at(-1)).toBe((8192 + 499) % 251)
    for (const options of [
      { byteLength: 2 * 4096 + 501 },
      { offset: 4096, byteLength: 4096 + 501 },
      { offset: 8192, byteLength: 501 },
      { offset: 3 * 4096 },
      { offset: 3 * 4096, byteLength: 1 },
      { offset: -4096 },
      { offset: 100 },
      { offset: 0.5 },
      { offset: Number.NaN },
      { byteLength: 0 },
      { byteLength: -1 },
      { byteLength: 1.5 },
      { byteLength: Number.NaN },
    ])
      expect(() => Region.fromFd(fd, options), JSON.stringify(options)).toThrow(CONFIG)
  })

  test('an empty file, a pipe and a folder have nothing to map; a file open for reading only is refused by the system', () => {
    expect(() => Region.fromFd(file(0).fd)).toThrow(CONFIG)
    const { path } = file(4096)
    const readOnly = openSync(path, 'r')
    onTestFinished(() => closeSync(readOnly))
    expect(() => Region.fromFd(readOnly)).toThrow(
      expect.objectContaining({
        code: 'ERR_SPEADCAST_MEMORY',
        cause: expect.objectContaining({ name: 'NativeError', call: 'mmap', errnoName: 'EACCES' }),
      }),
    )
    const folder = openSync('/proc/self', 'r')
    onTestFinished(() => closeSync(folder))
    expect(() => Region.fromFd(folder)).toThrow()
  })

  test('outlives its descriptor and its name, and is never recycled: others may still look at it', () => {
    const directory = mkdtempSync('/dev/shm/speadcast-region-')
    const path = join(directory, 'file')
    writeFileSync(path, Buffer.alloc(8192, 9))
    const fd = openSync(path, 'r+')
    const region = Region.fromFd(fd)
    closeSync(fd)
    rmSync(directory, { recursive: true })
    region.release()
    for (let i = 0; i < 10; i++) {
      const other = allocate(8192)
      expect(other.address).not.toBe(region.address)
      bytesOf(other).fill(1)
    }
    expect(isAll(bytesOf(region), 9)).toBe(true)
  })
})

test('fromAddress is a window on memory of another owner', () => {
  const owner = allocate(3 * 4096, { hugePages: 'never' })
  bytesOf(owner).fill(4)
  // At its start as well as inside it; a window has its own length.
  const windows = [Region.fromAddress(owner.address, 100), Region.fromAddress(owner.address + 5000, 100)]
  for (const window of windows) {
    expect(window.buffer.byteLength).toBe(100)
    expect(isAll(bytesOf(window), 4)).toBe(true)
    bytesOf(window).fill(5)
    window.release()
  }
  const view = bytesOf(owner)
  expect([view[99], view[100], view[4999], view[5000], view[5099], view[5100]]).toEqual([5, 4, 4, 5, 5, 4])
})

describe('another thread', () => {
  test.for([100, 100_000, 5 * MIB])('sees the same %i bytes and is seen', async (bytes) => {
    for (const region of [allocate(bytes), Region.fromFd(sharedFile(bytes))]) {
      const handle = region.handle()
      expect(attachRegion(structuredClone(handle))).toBe(region.buffer)
      const worker = new Worker(programFile('ffi/attach'), { workerData: { handle } })
      onTestFinished(async () => void (await worker.terminate()))
      for (const value of [3, 5]) {
        bytesOf(region).fill(value)
        worker.postMessage(value + 1)
        const [answer] = await once(worker, 'message', { signal: AbortSignal.timeout(10_000) })
        expect(answer).toEqual({ before: [value, value], length: region.byteLength, same: true })
        expect(isAll(bytesOf(region), value + 1)).toBe(true)
      }
    }
  })
})
