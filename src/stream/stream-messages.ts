import type { StreamMessagesOf } from './channels.js'
import type { Stream } from './stream.js'

/** The messages of `node:diagnostics_channel` about streams, by the names of their channels (docs/diagnosing.md, "Channels"). */
export interface StreamMessages extends StreamMessagesOf<Stream> {}
