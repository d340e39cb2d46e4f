import { connect, type Socket } from 'node:net'
import { DEFAULT_PACKET_BYTES } from '../../send/options.js'
import { LineChannel } from './line-channel.js'
import { bareAddress, endpointOf, type Place } from './place.js'
import {
  ANSWER_SECONDS,
  type Collect,
  controlError,
  type FromAgent,
  type Hello,
  messageOf,
  type Open,
  type Opened,
  PROTOCOL_VERSION,
  ProtocolError,
  parseFromAgent,
  type Result,
  type Welcome,
} from './protocol.js'

/** By how much IPv6's header is longer than IPv4's. */
const IPV6_HEADER_MORE_BYTES = 20
/** An agent may wait so long for packets that are still on their way (serve.ts). */
const COLLECT_SECONDS = 15 + ANSWER_SECONDS

/** A master's side of the control connection. All its calls reject with ERR_SPEADCAST_UNREACHABLE where the agent does not do its part. */
export class Control {
  readonly #channel: LineChannel
  readonly #address: string
  readonly #place: Place
  #limits: Welcome | undefined

  private constructor(socket: Socket, place: Place) {
    this.#address = bareAddress(socket.remoteAddress ?? place.host)
    this.#place = place
    this.#channel = new LineChannel(socket)
  }

  /** Connects, and is welcome. */
  static async connect(place: Place, stopping: AbortSignal): Promise<Control> {
    const { host, port } = place
    const socket = await connected(place, stopping).catch((cause: NodeJS.ErrnoException) => {
      const remedy = cause.code === 'ECONNREFUSED' ? `; start one there: speadcast bench agent --listen ${port}` : ''
      throw controlError(`no agent at ${host}, port ${port}: ${cause.message}${remedy}`, cause)
    })
    const control = new Control(socket, place)
    try {
      control.#channel.send({ type: 'hello', version: PROTOCOL_VERSION } satisfies Hello)
      control.#limits = await control.#answer('welcome', ANSWER_SECONDS)
      return control
    } catch (error) {
      control.close()
      throw error
    }
  }

  get limits(): Welcome {
    return this.#limits!
  }

  /** Aborts when the connection is gone. */
  get gone(): AbortSignal {
    return this.#channel.gone
  }

  /** The largest packet that an MTU of 1500 takes, or where TCP cuts packets as it likes, that costs least. */
  get usualPacketBytes(): number {
    if (this.#place.transport === 'tcp') return 65000
    return this.#address.includes(':') ? DEFAULT_PACKET_BYTES - IPV6_HEADER_MORE_BYTES : DEFAULT_PACKET_BYTES
  }

  endpoint(port: number): string {
    return endpointOf(this.#address, port, this.#place.transport)
  }

  open(heapSizeBytes: number, seconds: number): Promise<Opened> {
    const { transport } = this.#place
    this.#channel.send({ type: 'open', transport, heapSizeBytes, seconds } satisfies Open)
    return this.#answer('opened', ANSWER_SECONDS)
  }

  collect(packets: number): Promise<Result> {
    this.#channel.send({ type: 'collect', packets } satisfies Collect)
    return this.#answer('result', COLLECT_SECONDS)
  }

  close(): void {
    this.#channel.close()
  }

  async #answer<T extends FromAgent['type']>(type: T, seconds: number): Promise<Extract<FromAgent, { type: T }>> {
    const { host, port } = this.#place
    let line: string | undefined
    let answer: FromAgent | undefined
    try {
      line = await this.#channel.next(seconds)
      answer = line === undefined ? undefined : parseFromAgent(line)
    } catch (error) {
      const why =
        error instanceof ProtocolError
          ? `it sent ${error.message}; is it a speadcast bench agent of this version?`
          : messageOf(error)
      throw controlError(`the agent at ${host}, port ${port}: ${why}`, error)
    }
    if (answer === undefined) throw controlError(`the agent at ${host}, port ${port} closed the connection`)
    if (answer.type === 'refused') throw controlError(`the agent at ${host}, port ${port} refused: ${answer.why}`)
    if (answer.type === type) return answer as Extract<FromAgent, { type: T }>
    throw controlError(`the agent at ${host}, port ${port} sent '${answer.type}' in place of '${type}'`)
  }
}

function connected({ host, port }: Place, stopping: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port })
    const fail = (error: Error): void => {
      socket.destroy()
      reject(error)
    }
    const timer = setTimeout(() => fail(new Error(`no answer in ${ANSWER_SECONDS} s`)), ANSWER_SECONDS * 1000)
    const stop = (): void => fail(new Error('interrupted'))
    stopping.addEventListener('abort', stop)
    const done = (): void => {
      clearTimeout(timer)
      stopping.removeEventListener('abort', stop)
    }
    socket.once('connect', () => {
      done()
      socket.removeListener('error', fail)
      resolve(socket)
    })
    socket.once('error', (error) => {
      done()
      fail(error)
    })
  })
}
