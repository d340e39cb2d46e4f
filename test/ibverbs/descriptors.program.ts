/**
 * Opens a stream of BACKEND with ever more descriptors to spare, until it can. Prints how many are open beyond those before,
 * after each refusal and after the close at last; and the refusals.
 */
import { readdirSync } from 'node:fs'
import { openStream } from 'speadcast'
import { koffi } from '#dist/ffi/koffi.js'
import { print } from '../support/print.js'

const RLIMIT_NOFILE = 7
const setrlimit = koffi().load('libc.so.6').func('int setrlimit(int resource, uint64_t *limit)')
const limit = (most: number) => setrlimit(RLIMIT_NOFILE, BigUint64Array.of(BigInt(most), 4096n))
const open = () => readdirSync('/proc/self/fd').length
const backend = process.argv[2] as 'ibverbs' | 'rdma-ud'
const options = {
  to: '10.77.0.2:7148',
  interface: 'v0',
  backend,
  thread: 'inline',
  packetSizeBytes: 1024,
  ...(backend === 'rdma-ud' && { rdmaUd: { peers: [{ qpn: 17 }] } }),
} as const

// Loads what is loaded once.
await (await openStream(options)).close()
const before = open()
const left: number[] = []
const refusals = new Set<string>()
for (let most = 3; ; most++) {
  limit(most)
  let refusal: unknown
  const stream = await openStream(options).catch((error) => {
    refusal = error
  })
  limit(4096)
  await stream?.close()
  left.push(open() - before)
  if (stream) break
  refusals.add(String(refusal).split('\n')[0]!)
}
print({ tries: left.length, left: [...new Set(left)], refusals: [...refusals] })
