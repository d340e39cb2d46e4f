/** The checks of what a caller of `metrics` gives. */
import { checkOptions, isObject, shown } from '../checks.js'
import { counted, ensure, printable, SpeadcastError } from '../errors.js'
import type { Labels } from './source.js'
import { METRICS } from './table.js'

/** Labels that this package sets, or that Prometheus does. */
const TAKEN = new Set(['stream', 'receiver', 'backend', 'instance', 'job', 'le', ...METRICS.flatMap(({ labels }) => labels)])
const MOST_LABELS = 16
const MOST_CHARACTERS = 256

const MOST_PARTS = 65536
const DEFAULT_PARTS = 256

const refuse = (message: string): never => {
  throw new SpeadcastError('ERR_SPEADCAST_CONFIG', `metrics: ${message}`)
}

/** @throws ERR_SPEADCAST_CONFIG */
export function checkLabels(labels: unknown): Labels {
  if (labels === undefined) return {}
  if (!isObject(labels) || typeof labels === 'function' || Array.isArray(labels))
    return refuse(`labels is ${shown(labels)}; give an object such as { site: 'karoo' }`)
  const entries = Object.entries(labels)
  if (entries.length > MOST_LABELS) return refuse(`labels has ${entries.length} labels; at most ${MOST_LABELS} make sense`)
  for (const [name, value] of entries) {
    if (!/^[a-zA-Z_][a-zA-Z0-9_]*$/.test(name) || name.startsWith('__'))
      return refuse(`'${printable(name.slice(0, MOST_CHARACTERS))}' is no name of a label; use letters, digits and _`)
    if (TAKEN.has(name)) return refuse(`the label '${name}' is set by speadcast or by Prometheus; choose another name`)
    if ((typeof value !== 'string' && !Number.isFinite(value)) || String(value).length > MOST_CHARACTERS)
      return refuse(
        `label '${name}' is ${shown(value)}; give a text of at most ${counted(MOST_CHARACTERS, 'character')}, or a number`,
      )
  }
  return Object.fromEntries(entries.map(([name, value]) => [name, String(value)]))
}

/** @throws ERR_SPEADCAST_CONFIG */
export function checkName(name: unknown): string | undefined {
  if (name === undefined || (typeof name === 'string' && name !== '' && name.length <= MOST_CHARACTERS)) return name
  return refuse(`name is ${shown(name)}; give a text of up to ${counted(MOST_CHARACTERS, 'character')}, such as 'polarisation-h'`)
}

/** @returns the most substreams or endpoints that are told apart. @throws ERR_SPEADCAST_CONFIG */
export function checkParts(name: 'substreams' | 'endpoints', most: unknown): number {
  if (most === undefined || most === false) return 0
  if (most === true) return DEFAULT_PARTS
  if (Number.isInteger(most) && (most as number) >= 1 && (most as number) <= MOST_PARTS) return most as number
  return refuse(`${name} is ${shown(most)}; give true, false, or how many to tell apart, from 1 to ${MOST_PARTS}`)
}

export function checkKeys(call: string, options: object, known: readonly string[]): void {
  checkOptions(call, options, known)
}

/** Checks that it is a registry of prom-client, by what is called of it. @throws ERR_SPEADCAST_CONFIG */
export function checkRegistry(registry: unknown): void {
  const { registerMetric, removeSingleMetric, metrics, contentType } = (registry ?? {}) as Record<string, unknown>
  const fits =
    typeof registerMetric === 'function' &&
    typeof removeSingleMetric === 'function' &&
    typeof metrics === 'function' &&
    typeof contentType === 'string'
  ensure(
    fits,
    'ERR_SPEADCAST_CONFIG',
    () => `metrics: registry is ${shown(registry)}; give a Registry of prom-client, or leave it out`,
  )
}
