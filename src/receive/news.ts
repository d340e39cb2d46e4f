/** Tells of a receiver's life: subscribers of the channels, the listener of changes, and NODE_DEBUG=speadcast. */
import { messageOf } from '../checks.js'
import { debug } from '../debug.js'
import { counted } from '../errors.js'
import { RECEIVER_CHANGE, RECEIVER_CLOSE, RECEIVER_ERROR, RECEIVER_OPEN } from './channels.js'
import type { Receiver } from './receiver.js'

let receivers = 0

export class ReceiverNews {
  readonly #name = `receiver ${++receivers}`
  #receiver: Receiver | undefined

  /** For NODE_DEBUG. */
  say(line: () => string): void {
    debug(() => `${this.#name}: ${line()}`)
  }

  /** A group was lost or joined again, connections were turned away or could not be accepted. */
  changed(what: string): void {
    this.say(() => what)
    const receiver = this.#receiver
    if (receiver && RECEIVER_CHANGE.hasSubscribers) RECEIVER_CHANGE.publish({ receiver, what, time: Date.now() })
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
        this.say(() => `over (${reason}); ${counted(heaps, 'heap')} received, ${heapsIncomplete} incomplete`)
        if (RECEIVER_CLOSE.hasSubscribers) RECEIVER_CLOSE.publish({ receiver, summary })
      },
      (error) => {
        this.say(() => `failed: ${messageOf(error)}`)
        if (RECEIVER_ERROR.hasSubscribers) RECEIVER_ERROR.publish({ receiver, error })
      },
    )
  }
}
