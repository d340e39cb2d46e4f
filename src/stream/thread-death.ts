/** The option onThreadDeath: its form, its contradictions, and what the driver is told. */
import * as v from 'valibot'
import type { RestartBound } from '../engine/driver.js'
import { DEFAULTS, type StreamOptions } from './options.js'
import { whole } from './schema.js'

const policy = v.picklist(['fail', 'restart'], "must be 'fail' or 'restart'")

export const threadDeathSchema = v.union(
  [
    policy,
    v.strictObject({
      policy,
      most: v.exactOptional(whole(1, 1e6, 'I/O threads')),
      withinSeconds: v.exactOptional(
        v.pipe(
          v.number('must be a number of seconds'),
          v.check((n) => n >= 0.001 && n <= 1e6, 'must be from 0.001 to 1000000 (seconds)'),
        ),
      ),
    }),
  ],
  "must be 'fail', 'restart' or { policy, most, withinSeconds }",
)

type Checked = { readonly [K in 'onThreadDeath' | 'backend' | 'thread' | 'socket']?: StreamOptions[K] | undefined }

/** Says which option contradicts it; undefined: none. */
export function contradictsRestart({ onThreadDeath: given, backend, thread, socket }: Checked): string | undefined {
  if (typeof given === 'object' && given.policy === 'fail') {
    const alone = (['most', 'withinSeconds'] as const).find((name) => given[name] !== undefined)
    if (alone) return `onThreadDeath.${alone} is of 'restart'; give onThreadDeath.policy 'restart', or leave it out`
  }
  if (!restartBound(given)) return undefined
  if (thread === 'inline' || backend === 'dgram' || backend === 'memory')
    return "onThreadDeath 'restart' is for an I/O thread, and this stream sends from the event loop; leave one of the two out"
  if (backend === 'pcap') return "onThreadDeath 'restart' would begin the file of backend 'pcap' anew; leave it out"
  if (socket) return "onThreadDeath 'restart' opens another socket, and one is given as socket; leave one of the two out"
  return undefined
}

/** Undefined: the stream ends with its thread. */
export function restartBound(given: StreamOptions['onThreadDeath']): RestartBound | undefined {
  if (given === undefined) return undefined
  const {
    policy,
    most = DEFAULTS.mostThreads,
    withinSeconds = DEFAULTS.threadsWithinSeconds,
  } = typeof given === 'string' ? { policy: given } : given
  return policy === 'restart' ? { most, withinMs: withinSeconds * 1000 } : undefined
}
