/** Quantities of the command line: it takes what it prints, and says of the rest what is allowed. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { byteCount, byteCounts, counter, milliseconds, seconds, secondsOf, wholeNumber } from '#dist/src/cli/common/quantity.js'
import { binaryBytes, bitsPerSecond, bytes, bytesPerSecond, clock, count } from '#dist/src/cli/common/table.js'
import { parseRate } from '#dist/src/index.js'

const any = byteCount(0, 2 ** 60)
const size = fc.oneof(fc.nat(), fc.maxSafeNat(), fc.nat(20_000))

test('what is printed is taken, and means the same to the digits that are printed', () => {
  // Two decimals of at least 1.00, half of the last one.
  const near = (back: number, value: number): boolean => Math.abs(back - value) <= value * 0.0051 + 0.5
  fc.assert(
    fc.property(size, (value) => {
      expect(wholeNumber(0)(count(value))).toBe(value)
      expect(Number(counter(count(value)))).toBe(value)
      expect(any(`${value} bytes`)).toBe(value)
      expect(near(any(bytes(value)), value), bytes(value)).toBe(true)
      expect(near(any(binaryBytes(value)), value), binaryBytes(value)).toBe(true)
      expect(near(parseRate(bytesPerSecond(value)), value), bytesPerSecond(value)).toBe(true)
      expect(near(parseRate(bitsPerSecond(value)), value), bitsPerSecond(value)).toBe(true)
    }),
    { numRuns: 2000 },
  )
  fc.assert(
    fc.property(fc.nat(1_000_000), (value) => {
      expect(secondsOf(clock(value))).toBe(value)
    }),
  )
})

const ofBytes = byteCount(1, 2 ** 40)

test.for([
  ['8192', 8192],
  ['8KiB', 8192],
  ['8 KiB', 8192],
  ['8kiB', 8192],
  ['8KIB', 8192],
  ['8Ki', 8192],
  ['9kB', 9000],
  ['9 KB', 9000],
  ['1048576 B', 2 ** 20],
  ['1,048,576 bytes', 2 ** 20],
  ['1 byte', 1],
  ['1.5GB', 1.5e9],
  ['1.33 KiB', 1362],
  ['1mB', 1e6],
] as const)('%s is %d bytes', ([text, value]) => {
  expect(ofBytes(text)).toBe(value)
})

test.for([
  ['8k', /k may be 1000 or 1024, write 8kB or 8KiB/],
  ['8K', /K may be 1000 or 1024, write 8KB or 8KiB/],
  ['8M', /M may be 1000000 or 1048576, write 8MB or 8MiB/],
  ['8Kib', /b is bits, write 8KiB/],
  ['8kb', /b is bits, write 8kB/],
  ['8b', /b is bits, write 8B/],
  ['1.5', /It must be a whole number of bytes from 1 to/],
  ['1.5B', /It must be a whole number of bytes/],
  ['1,5kB', /It must be a whole number of bytes/],
  ['12,34', /It must be a whole number of bytes/],
  ['0', /from 1 to 1099511627776/],
  ['-1', /It must be/],
  ['', /It must be/],
  ['KiB', /It must be/],
  ['8 KiB 8', /It must be/],
  ['NaN', /It must be/],
  ['1e9', /It must be/],
  ['2TiB', /from 1 to 1099511627776/],
] as const)('%j is no number of bytes', ([text, why]) => {
  expect(() => ofBytes(text)).toThrow(why)
})

test('a list of sizes takes a unit for each', () => {
  expect(byteCounts(1, 2 ** 30)('256, 8KiB,1 MiB')).toEqual([256, 8192, 2 ** 20])
  expect(() => byteCounts(1, 2 ** 30)('256,,8')).toThrow(/whole number of bytes/)
})

test.for([
  ['5', 5],
  ['0.5', 0.5],
  ['5s', 5],
  ['1.5 s', 1.5],
  ['250ms', 0.25],
  ['10us', 1e-5],
  ['10 µs', 1e-5],
  ['2min', 120],
  ['1 h', 3600],
  ['0:05', 5],
  ['12:34', 754],
  ['1:02:03', 3723],
  ['90 SEC', 90],
] as const)('%s is %d seconds', ([text, value]) => {
  expect(seconds(0)(text)).toBeCloseTo(value, 12)
})

test('a time without a unit is in that of the option', () => {
  expect([milliseconds(0)('10'), milliseconds(0)('2.5ms'), milliseconds(0)('1s'), milliseconds(0)('0:01')]).toEqual([
    10, 2.5, 1000, 1000,
  ])
})

test.for(['', 'soon', '-1', '5 m', '1:60', '1e3', 'NaN', '5 5', '3000000', '1000h'])('%j is no time', (text) => {
  expect(() => seconds(0)(text)).toThrow(/It must be a time from 0 to 2147483 seconds, such as 5, 250ms, 2min or 1:30/)
  expect(() => milliseconds(0)(text.replace('3000000', '3000000000'))).toThrow(
    /It must be a time from 0 to 2147483000 milliseconds/,
  )
})
