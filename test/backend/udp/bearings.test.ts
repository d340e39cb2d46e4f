import { expect, test } from 'vitest'
import { Bearings } from '#dist/src/backend/udp/bearings.js'
import { parseEndpoints, resolveEndpoints } from '#dist/src/net/endpoint.js'

test('a path that is found again is the object that was found before, so that nothing that is kept is replaced by its like', async () => {
  const endpoints = await resolveEndpoints(parseEndpoints(['127.0.0.1:7148', '127.0.0.2:7148']))
  const bearings = new Bearings({ endpoints })
  const [first, second] = [bearings.find(0), bearings.find(1)]
  expect(first).toMatchObject({ to: '127.0.0.1:7148', interfaceName: 'lo', sourceAddress: '127.0.0.1' })
  expect(bearings.find(0)).toBe(first)
  expect(bearings.find(1)).toBe(second)
  bearings.pinned = Uint8Array.of(127, 0, 0, 5)
  bearings.flow = { sourcePort: 0, tos: 4 }
  expect(bearings.find(0)).toBe(first)
})
