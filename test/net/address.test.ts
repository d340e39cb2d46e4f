// Address literals, against node's own opinion. parseAddress does without node:net, because that takes longer to load than all of ours.
import { isIP } from 'node:net'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseAddress } from '#dist/src/net/address.js'

const familyOf = (text: string): number => ({ 4: 4, 16: 6 })[parseAddress(text)?.length ?? 0] ?? 0

const number = fc.oneof(fc.nat(300).map(String), fc.constantFrom('', '00', '01', '0', '255', '256', '1000', 'a', ' 1'))
const group = fc.oneof(
  fc.nat(0xffff).map((n) => n.toString(16)),
  fc.constantFrom('', '0', '0000', '00000', 'FFFF', 'g', '1.2.3.4', '1.2.3'),
)
const v4 = fc.array(number, { minLength: 3, maxLength: 5 }).map((parts) => parts.join('.'))
const v6 = fc
  .array(fc.oneof({ weight: 6, arbitrary: group }, fc.constant('')), { minLength: 1, maxLength: 10 })
  .map((parts) => parts.join(':'))
const valid = fc.oneof(fc.ipV4(), fc.ipV6())
const damaged = fc
  .tuple(valid, fc.nat(40), fc.constantFrom(':', '::', '.', '0', 'f', '1.2.3.4', ''))
  .map(([text, at, put]) => text.slice(0, at % (text.length + 1)) + put + text.slice(at % (text.length + 1)))

test('takes the literals that node takes, and no others', () => {
  fc.assert(
    fc.property(fc.oneof(valid, v4, v6, damaged), (text) => {
      expect([text, familyOf(text)]).toEqual([text, isIP(text)])
    }),
    { numRuns: 20_000 },
  )
})

test('reads the numbers of an IPv6 address as node does', () => {
  fc.assert(
    fc.property(fc.ipV6(), (text) => {
      // The URL parser writes the address in hexadecimal groups (WHATWG URL, 3.5).
      const [left = '', right] = new URL(`http://[${text}]`).hostname.slice(1, -1).split('::')
      const words = (part: string | undefined) => (part ? part.split(':').map((word) => Number.parseInt(word, 16)) : [])
      const zeroes = Array.from({ length: 8 - words(left).length - words(right).length }, () => 0)
      const expected = [...words(left), ...zeroes, ...words(right)].flatMap((word) => [word >> 8, word & 0xff])
      expect([...parseAddress(text)!]).toEqual(expected)
    }),
  )
})
