/**
 * The control connection between `speadcast bench --agent` (the master) and `speadcast bench agent`: lines of JSON over TCP. Both sides
 * check each line as one from a stranger.
 *
 * | master                     | agent                                                           |
 * |----------------------------|-----------------------------------------------------------------|
 * | `hello`, its version       | `welcome`, its limits; or `refused`, and the end                |
 * | `open`, what it will send  | `opened`, the port it receives on; or `refused`                 |
 * | (sends heaps to that port) | (receives them)                                                 |
 * | `collect`, what it sent    | `result`, what came, once all came or nothing comes any more     |
 * | `open` of the next run, or closes the connection                                             ||
 */
import { SpeadcastError } from '../../../errors.js'

/** Raised where an older peer would misunderstand. */
export const PROTOCOL_VERSION = 1
export const DEFAULT_AGENT_PORT = 7150
/** A longer line ends the connection. */
export const LINE_BYTES = 4096
/** Within this time each side answers what takes no measuring. */
export const ANSWER_SECONDS = 10

export type Transport = 'udp' | 'tcp'

export interface Hello {
  readonly type: 'hello'
  readonly version: number
}

export interface Open {
  readonly type: 'open'
  readonly transport: Transport
  readonly heapSizeBytes: number
  /** How long the master means to send. */
  readonly seconds: number
}

export interface Collect {
  readonly type: 'collect'
  readonly packets: number
}

export type FromMaster = Hello | Open | Collect

export interface Welcome {
  readonly type: 'welcome'
  readonly version: number
  readonly mostSeconds: number
  readonly mostHeapBytes: number
}

export interface Opened {
  readonly type: 'opened'
  readonly port: number
  readonly receiveBufferBytes: number
  readonly receiver: string
}

export interface Refused {
  readonly type: 'refused'
  readonly why: string
}

/** Numbers of a result, all of them at least 0. */
const COUNTS = [
  'packets',
  'bytes',
  'messages',
  'heaps',
  'heapsIncomplete',
  'payloadBytes',
  'duplicates',
  'reordered',
  'malformed',
  'packetsRefused',
  'heapsRefused',
  'heapsEvicted',
  'droppedByKernel',
  'droppedByInterface',
  'seconds',
  'cpuSeconds',
] as const
type Count = (typeof COUNTS)[number]

/** The counters of `receiver.stats()` at the end of a run. */
export interface Result extends Readonly<Record<Count, number>> {
  readonly type: 'result'
}

export type FromAgent = Welcome | Opened | Result | Refused

/** The peer said something that is not in the table above, or nothing. */
export class ProtocolError extends Error {}

type Fields = Readonly<Record<string, unknown>>

function fieldsOf(line: string): Fields {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    throw new ProtocolError('a line that is no JSON')
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new ProtocolError('a line that is no JSON object')
  return value as Fields
}

function number(fields: Fields, name: string, least: number, most = Number.MAX_SAFE_INTEGER): number {
  const value = fields[name]
  if (typeof value === 'number' && value >= least && value <= most) return value
  throw new ProtocolError(`'${name}' is no number from ${least} to ${most}`)
}

function whole(fields: Fields, name: string, least: number, most?: number): number {
  const value = number(fields, name, least, most)
  if (Number.isInteger(value)) return value
  throw new ProtocolError(`'${name}' is no whole number`)
}

function text(fields: Fields, name: string): string {
  const value = fields[name]
  if (typeof value === 'string' && value.length <= 500) return value
  throw new ProtocolError(`'${name}' is no text`)
}

/** @throws ProtocolError */
export function parseFromMaster(line: string): FromMaster {
  const fields = fieldsOf(line)
  const { type } = fields
  if (type === 'hello') return { type, version: whole(fields, 'version', 0) }
  if (type === 'collect') return { type, packets: whole(fields, 'packets', 0) }
  if (type !== 'open') throw new ProtocolError(`no message of a master's has this 'type'`)
  const { transport } = fields
  if (transport !== 'udp' && transport !== 'tcp') throw new ProtocolError("'transport' is neither udp nor tcp")
  return { type, transport, heapSizeBytes: whole(fields, 'heapSizeBytes', 1, 2 ** 31), seconds: number(fields, 'seconds', 0) }
}

/** @throws ProtocolError */
export function parseFromAgent(line: string): FromAgent {
  const fields = fieldsOf(line)
  const { type } = fields
  if (type === 'refused') return { type, why: text(fields, 'why') }
  if (type === 'welcome')
    return {
      type,
      version: whole(fields, 'version', 0),
      mostSeconds: number(fields, 'mostSeconds', 0),
      mostHeapBytes: whole(fields, 'mostHeapBytes', 1),
    }
  if (type === 'opened')
    return {
      type,
      port: whole(fields, 'port', 1, 65535),
      receiveBufferBytes: whole(fields, 'receiveBufferBytes', 0),
      receiver: text(fields, 'receiver'),
    }
  if (type !== 'result') throw new ProtocolError(`no message of an agent's has this 'type'`)
  const counts = Object.fromEntries(COUNTS.map((name) => [name, number(fields, name, 0)])) as Record<Count, number>
  return { type, ...counts }
}

/** The peer, its host or the network failed the master. */
export const controlError = (message: string, cause?: unknown): SpeadcastError =>
  new SpeadcastError('ERR_SPEADCAST_UNREACHABLE', message, { cause })

export const messageOf = (thrown: unknown): string => (thrown instanceof Error ? thrown.message : String(thrown))
