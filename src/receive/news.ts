/** Tells of a receiver's life: those who iterate, subscribers of the channels, the listener of changes, and NODE_DEBUG=speadcast. */
import { messageOf } from '../checks.js'
import { debug } from '../debug.js'
import { counted } from '../errors.js'
import { Events } from '../events.js'
import { RECEIVER_CLOSE, RECEIVER_ERROR, RECEIVER_EVENT, RECEIVER_OPEN } from './channels.js'
import { RECEIVER_EVENT_KINDS, type ReceiverEvent, type ReceiverEventKind, type ReceiverNewsItem } from './events.js'
import type { Receiver } from './receiver.js'

/** Kinds of which `onChange` is told, the others being many. */
const CHANGES: readonly ReceiverEventKind[] = ['membership', 'refusal']

let receivers = 0

export class ReceiverNews {
  readonly events = new Events<ReceiverEvent>(RECEIVER_EVENT_KINDS)
  readonly #name = `receiver ${++receivers}`
  #receiver: Receiver | undefined

  /** @param waiting the heaps that wait for the consumer */
  constructor(
    readonly waiting: { readonly length: number },
    readonly onChange: ((message: string) => void) | undefined,
  ) {}

  /** For NODE_DEBUG. */
  say(line: () => string): void {
    debug(() => `${this.#name}: ${line()}`)
  }

  /** Something happened where packets are received, or to what they come by. */
  tell(item: ReceiverNewsItem): void {
    this.say(() => item.message)
    this.#event(item)
    if (CHANGES.includes(item.kind)) this.onChange?.(item.message)
  }

  /** Costs a look where nobody listens. */
  #event(item: ReceiverNewsItem): void {
    const receiver = this.#receiver
    if (!receiver || !(this.events.read || RECEIVER_EVENT.hasSubscribers)) return
    const { kind, message, endpoint, before, after } = item
    const event: ReceiverEvent = {
      time: Date.now(),
      kind,
      message,
      ...(endpoint !== undefined && { endpoint }),
      ...(before && { before }),
      ...(after && { after }),
      heaps: receiver.stats().heaps,
      waitingHeaps: this.waiting.length,
    }
    this.events.give(event)
    if (RECEIVER_EVENT.hasSubscribers) RECEIVER_EVENT.publish({ receiver, event })
  }

  opened(receiver: Receiver): void {
    this.#receiver = receiver
    this.say(() => {
      const { backend, backendReason, gro, receiveBufferBytes } = receiver.stats()
      const why = backendReason === '' ? '' : ` (${backendReason})`
      return `open on ${receiver.endpoints.join(', ')}; backend ${backend}${why}, gro ${gro}, socket buffer ${receiveBufferBytes} bytes`
    })
    if (RECEIVER_OPEN.hasSubscribers) RECEIVER_OPEN.publish({ receiver })
    receiver.done.then(
      (summary) => {
        const { heaps, heapsIncomplete, reason } = summary
        const message = `over (${reason}); ${counted(heaps, 'heap')} received, ${heapsIncomplete} incomplete`
        this.#end({ kind: 'end', message, after: { reason } })
        if (RECEIVER_CLOSE.hasSubscribers) RECEIVER_CLOSE.publish({ receiver, summary })
      },
      (error) => {
        this.#end({ kind: 'error', message: `failed: ${messageOf(error)}` })
        if (RECEIVER_ERROR.hasSubscribers) RECEIVER_ERROR.publish({ receiver, error })
      },
    )
  }

  #end(item: ReceiverNewsItem): void {
    this.tell(item)
    this.events.close()
  }
}
