/** The option onError: its form, the checks that need the endpoints or the backend, and what the engine is told. */
import * as v from 'valibot'
import type { ErrorPolicy } from '../engine/contract.js'
import { counted, SpeadcastError } from '../errors.js'
import { DEFAULTS, type OnError, type OnErrorOptions, type StreamOptions } from './options.js'

const seconds = (low: number, high: number) => {
  const message = `must be from ${low} to ${high} (seconds)`
  return v.pipe(
    v.number('must be a number of seconds'),
    v.check((n) => n >= low && n <= high, message),
  )
}

const policy = v.picklist(['fail', 'skip', 'retry'], "must be 'fail', 'skip' or 'retry'")

const onErrorOptions = v.strictObject({
  policy,
  firstBackoffSeconds: v.exactOptional(seconds(0.00001, 3600)),
  mostBackoffSeconds: v.exactOptional(seconds(0.00001, 3600)),
  forSeconds: v.exactOptional(
    v.pipe(
      v.number('must be a number of seconds, or Infinity'),
      v.check((n) => n >= 0, 'must be from 0 up (seconds), or Infinity'),
    ),
  ),
  duplicates: v.exactOptional(v.boolean('must be true or false')),
  atEnd: v.exactOptional(v.picklist(['fail', 'skip'], "must be 'fail' or 'skip'")),
})

export const onErrorSchema = v.union(
  [
    policy,
    onErrorOptions,
    v.array(v.union([policy, onErrorOptions], "must be 'fail', 'skip', 'retry' or { policy, … }"), 'must be a list'),
  ],
  "must be 'fail', 'skip', 'retry', { policy, … }, or a list with one for each endpoint",
)

type Given = StreamOptions['onError']

const SETTINGS = ['firstBackoffSeconds', 'mostBackoffSeconds', 'forSeconds', 'duplicates', 'atEnd'] as const

const isList = (given: OnError | readonly OnError[]): given is readonly OnError[] => Array.isArray(given)
const listOf = (given: Given): readonly OnError[] => (given === undefined ? [] : isList(given) ? given : [given])
const inFull = (one: OnError): OnErrorOptions => (typeof one === 'string' ? { policy: one } : one)

/** @throws ERR_SPEADCAST_CONFIG where entries contradict themselves or the backend */
export function checkOnError(given: Given, backend: string): void {
  const contradict = (message: string): never => {
    throw new SpeadcastError('ERR_SPEADCAST_CONFIG', message)
  }
  for (const one of listOf(given)) {
    const { policy, ...settings } = inFull(one)
    const alone = policy !== 'retry' && SETTINGS.find((name) => settings[name] !== undefined)
    if (alone) contradict(`onError.${alone} is of posting again; give onError.policy 'retry', or leave it out`)
    if (policy === 'retry' && backend === 'tcp')
      contradict("onError 'retry' posts packets again, and backend 'tcp' has a connection to make again; use tcp.reconnect 'retry'")
    const { firstBackoffSeconds, mostBackoffSeconds } = { ...DEFAULTS, ...settings }
    if (mostBackoffSeconds < firstBackoffSeconds)
      contradict(
        `onError.mostBackoffSeconds is ${mostBackoffSeconds}, below onError.firstBackoffSeconds (${firstBackoffSeconds}), the first pause; give at least that`,
      )
  }
}

/**
 * One policy for each endpoint; undefined where all heaps fail that are refused.
 * @throws ERR_SPEADCAST_CONFIG
 */
export function policiesOf(given: Given, endpoints: number): readonly ErrorPolicy[] | undefined {
  if (given === undefined) return undefined
  const list = listOf(given)
  if (isList(given) && list.length !== endpoints)
    throw new SpeadcastError(
      'ERR_SPEADCAST_CONFIG',
      `onError has ${counted(list.length, 'entry', 'entries')} for ${counted(endpoints, 'endpoint')}; give one for each, or one for all`,
    )
  const policies = Array.from({ length: endpoints }, (_, i) => policyOf(inFull(list[isList(given) ? i : 0]!)))
  return policies.some(({ skips, retry }) => skips || retry) ? policies : undefined
}

function policyOf({ policy, ...settings }: OnErrorOptions): ErrorPolicy {
  if (policy !== 'retry') return { skips: policy === 'skip', retry: undefined }
  const { firstBackoffSeconds, mostBackoffSeconds, retrySeconds } = DEFAULTS
  const { forSeconds = retrySeconds, duplicates = false, atEnd = 'fail' } = settings
  return {
    skips: atEnd === 'skip',
    retry: {
      firstNanoseconds: (settings.firstBackoffSeconds ?? firstBackoffSeconds) * 1e9,
      mostNanoseconds: (settings.mostBackoffSeconds ?? mostBackoffSeconds) * 1e9,
      forNanoseconds: forSeconds * 1e9,
      duplicates,
    },
  }
}
