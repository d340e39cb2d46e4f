/**
 * A channel of node:diagnostics_channel, typed. Messages are published when the publisher is not in the middle of anything, so a subscriber
 * may call whatever it likes. An error that it throws becomes an uncaught exception, as Node has it, and nothing here is left half done.
 */
import { type Channel, channel } from 'node:diagnostics_channel'

export class Topic<Messages, Name extends keyof Messages & string> {
  readonly #channel: Channel

  constructor(name: Name) {
    this.#channel = channel(name)
  }

  /** Look here before a message is made. */
  get hasSubscribers(): boolean {
    return this.#channel.hasSubscribers
  }

  publish(message: Messages[Name]): void {
    queueMicrotask(() => this.#channel.publish(message))
  }
}
