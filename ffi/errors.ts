import { printable } from './printable.js'

/**
 * Every error speadcast throws on purpose, in one table. `code` is the contract: match on it, never on the message.
 * A message names the offending value and the remedy; `cause` carries the failing system call (ffi's NativeError) where there is one.
 * Text from outside that a message quotes is escaped, so it is one line, and safe to print.
 */
export const ERROR_CODES = {
  ERR_SPEADCAST_CONFIG: 'An option is unknown, missing, of the wrong type or out of range, or two options contradict each other.',
  ERR_SPEADCAST_ENDPOINT: 'An endpoint could not be parsed, its port is out of range, or endpoints mix IPv4 and IPv6.',
  ERR_SPEADCAST_RESOLVE: 'A host name did not resolve to an address of the wanted family.',
  ERR_SPEADCAST_INTERFACE: 'The named interface or interface address does not exist here, or has no address of the wanted family.',
  ERR_SPEADCAST_BACKEND: 'The requested backend cannot work on this machine; the message says why and what can.',
  ERR_SPEADCAST_BUNDLED:
    'A bundler copied speadcast into another file, without the files that it finds beside itself; leave it out of the bundle.',
  ERR_SPEADCAST_PACKET_SIZE: 'The packet size is too small for SPEAD headers, too large for UDP, or exceeds the interface MTU.',
  ERR_SPEADCAST_ITEM: 'An item id, name, dtype, format or shape is invalid for the flavour.',
  ERR_SPEADCAST_VALUE: 'A value does not fit its item: wrong shape, wrong type, out of range, or a detached buffer.',
  ERR_SPEADCAST_HEAP_CNT: 'A heap cnt or heap cnt sequence does not fit the heap address width of the flavour.',
  ERR_SPEADCAST_SPLIT: 'The heap cannot be split into packets as asked (exact layout contradicts the items).',
  ERR_SPEADCAST_BATCH_STATE:
    'The batch is not in a state that allows the call (in flight, closed, of another stream or process, or not known by that handle).',
  ERR_SPEADCAST_SUBSTREAM: 'A substream index is not below the number of endpoints.',
  ERR_SPEADCAST_MEMORY: 'Memory could not be mapped, faulted in, registered or given back, or the file behind it became shorter.',
  ERR_SPEADCAST_CLOSED: 'The stream or receiver is closed or was destroyed.',
  ERR_SPEADCAST_ABORTED: 'The send was withdrawn from the queue before any of it was sent.',
  ERR_SPEADCAST_SEND: 'Some heaps of a batch were not sent whole; `outcome` names them and the cause per substream.',
  ERR_SPEADCAST_QUEUE_FULL: 'As many bytes are queued as `maxQueuedBytes` allows, so the send was refused.',
  ERR_SPEADCAST_LATE: 'A change was asked for a timestamp whose heaps had been taken up already; nothing was changed.',
  ERR_SPEADCAST_UNREACHABLE: 'An endpoint cannot be reached (no route, no neighbour, administratively forbidden).',
  ERR_SPEADCAST_WORKER: 'A thread that sends or receives could not be started, or ended unexpectedly.',
  ERR_SPEADCAST_CLOCK:
    'The clock of this host is not what an observation clock needs: nobody keeps it in step, or TAI is not known.',
  ERR_SPEADCAST_INPUT: 'Input data ended in the middle of a sample, or could not be read.',
  ERR_SPEADCAST_NATIVE: 'A system call failed unexpectedly; `cause` has the call and errno.',
} as const

/** A code of `ERROR_CODES`. */
export type ErrorCode = keyof typeof ERROR_CODES

/**
 * Errors that speadcast throws on purpose. Match on `code`; `message` is for a person, and `cause` has the failing call where there is one.
 * @example if (error instanceof SpeadcastError && error.code === 'ERR_SPEADCAST_UNREACHABLE') retry()
 */
export class SpeadcastError extends Error {
  /** 'SpeadcastError', also of a `SendError`. */
  override readonly name = 'SpeadcastError'
  /** The section about the code in the package's documents; `speadcast explain CODE` prints it. */
  readonly help: string

  /** Errors of your own adapters may use these codes too. */
  constructor(
    /** Which kind of error it is; stable between versions. */
    readonly code: ErrorCode,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(printable(message), options)
    this.help = `node_modules/speadcast/docs/errors.md#${code.toLowerCase()}`
  }
}
