/** Tests that run once on each path by which the udp backend hands packets to the kernel. */
import { type TestContext, type TestOptions, test } from 'vitest'
import { openStream, type StreamOptions } from '#dist/src/index.js'
import { need } from './need.js'
import { RemoteStream } from './remote-stream.js'

export type UdpPath = Extract<StreamOptions['udpPath'], 'auto' | 'io_uring'>

/** A second run of everything takes minutes: it is for .ci/run and SPEADCAST_TEST_ALL=1 npm test. */
const ALL = process.env.CI === 'true' || process.env.SPEADCAST_TEST_ALL === '1'
const PATHS: readonly UdpPath[] = ALL ? ['auto', 'io_uring'] : ['auto']

let ring: Promise<string> | undefined

/** The reason why the udp backend sends by another path than io_uring here; empty if it does not. */
async function ringUnavailable(): Promise<string> {
  await using stream = await openStream({ to: '127.0.0.1:9', backend: 'udp', udpPath: 'io_uring', thread: 'inline' })
  const { udpPath, udpPathReason } = stream.stats().states
  return udpPath === 'io_uring' ? '' : `${udpPathReason}`
}

/**
 * Registers a test for each path. Streams that the body opens by `open` take that path, unless their options name another one or another
 * backend. A test that names its path itself runs once: it is a plain `test`.
 */
export function testOnPaths(
  title: string,
  body: (ctx: TestContext, open: typeof RemoteStream.open, udpPath: UdpPath) => Promise<void>,
  options: TestOptions = {},
): void {
  for (const udpPath of PATHS)
    test(udpPath === 'auto' ? title : `${title}, ${udpPath}`, options, async (ctx) => {
      if (udpPath === 'io_uring') {
        ring ??= ringUnavailable()
        need(ctx, (await ring) === '', `no io_uring here: ${await ring}`)
      }
      const path = ({ backend = 'udp' }: StreamOptions) => (backend === 'udp' ? { udpPath } : {})
      await body(ctx, (ns, options, prefix) => RemoteStream.open(ns, { ...path(options), ...options }, prefix), udpPath)
    })
}
