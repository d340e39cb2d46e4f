/**
 * Loans: memory that other threads of the process may make views of, by a ticket that is plain data. A ticket is checked against a
 * table that all threads see, because the addresses beside it may be forged, old or another process's.
 *
 * | state of a loan | a ticket         | its memory                                          | leaves by                              |
 * |-----------------|------------------|-----------------------------------------------------|----------------------------------------|
 * | open            | is taken         | its lender's                                        | close()                                |
 * | closed          | is refused       | is kept, because a thread may have it attached      | a look at `over` when none has         |
 * | over            | is refused       | is handed out again; its record is the next loan's  | never                                  |
 *
 * Each thread that lends has tables of its own, which it alone changes, but for the attached threads' ids. A table is a memfd's
 * mapping: by its name in /proc/self/maps other threads know that an address in a ticket is a table's before they read it. Tables
 * are never unmapped.
 *
 * | word of a record | is                                                                            |
 * |------------------|-------------------------------------------------------------------------------|
 * | 0                | the state, 0 open or never used                                               |
 * | 1 … 8            | SHA-256 of what was lent; it includes the ticket's nonce                       |
 * | 9 …              | ids of the threads that have it attached, 0 for none                           |
 *
 * An attaching thread enters its id before it looks at the state, and close() stores the state before it looks for ids, so one of
 * the two sees the other. The id of a thread that ended does not count, so a thread that was terminated keeps nothing.
 */
import { SpeadcastError } from '../errors.js'
import { koffi } from '../koffi.js'
import { checkCall, libc, nativeCallsWork } from '../libc.js'
import { mapFile } from './mapping.js'
import { mappings } from './maps.js'

/** Names a loan. Plain data: it survives postMessage. */
export interface LoanTicket {
  readonly pid: number
  /** Address of the table. */
  readonly table: number
  readonly record: number
  readonly nonce: string
}

/** Computes SHA-256 of what is lent under that nonce, 8 words. */
export type DigestOf = (nonce: string) => Int32Array

const NAME = 'speadcast-loans'
const MAPPED_AS = `/memfd:${NAME} (deleted)`
const RECORD_WORDS = 128
const RECORDS = 1024
const TABLE_BYTES = RECORDS * RECORD_WORDS * 4
const DIGEST_AT = 1
const DIGEST_WORDS = 8
const THREADS_AT = DIGEST_AT + DIGEST_WORDS
const OPEN = 0
const CLOSED = 1
const MFD_CLOEXEC = 1

interface Table {
  readonly address: number
  readonly words: Int32Array
}

/** Those that this thread lends by, and those of others that it has seen, by address. */
const tables = new Map<number, Table>()
/** Records of this thread's tables that no loan has. */
const unused: { readonly table: Table; readonly record: number }[] = []
/** Closed loans that were attached when they were closed. */
let waiting: Loan[] = []
/** How often this thread has attached each record. */
const counts = new Map<string, number>()

export class Loan {
  readonly ticket: LoanTicket
  readonly #table: Table
  #state: 'open' | 'closed' | 'over' = 'open'

  constructor(digestOf: DigestOf) {
    settle()
    if (unused.length === 0) addTable()
    const { table, record } = unused.pop()!
    const nonce = process.getBuiltinModule('node:crypto').randomBytes(16).toString('hex')
    const at = record * RECORD_WORDS
    table.words.set(digestOf(nonce), at + DIGEST_AT)
    Atomics.store(table.words, at, OPEN)
    this.#table = table
    this.ticket = { pid: process.pid, table: table.address, record, nonce }
  }

  /** From now on the ticket is refused. Idempotent. */
  close(): void {
    if (this.#state !== 'open') return
    this.#state = 'closed'
    Atomics.store(this.#table.words, this.ticket.record * RECORD_WORDS, CLOSED)
    waiting.push(this)
    settle()
  }

  /** Whether nobody has views of its memory, nor can get any. */
  get over(): boolean {
    if (this.#state === 'closed' && !this.#attached()) this.#retire()
    return this.#state === 'over'
  }

  /** Whether views of a thread that still runs are in use. */
  #attached(): boolean {
    const { words } = this.#table
    const at = this.ticket.record * RECORD_WORDS
    for (let i = at + THREADS_AT; i < at + RECORD_WORDS; i++) {
      const thread = Atomics.load(words, i)
      if (thread === 0) continue
      if (isAlive(thread)) return true
      Atomics.compareExchange(words, i, thread, 0)
    }
    return false
  }

  #retire(): void {
    this.#state = 'over'
    // Zeroes are no SHA-256 that anybody can find something for.
    this.#table.words.fill(0, this.ticket.record * RECORD_WORDS + DIGEST_AT, this.ticket.record * RECORD_WORDS + THREADS_AT)
    unused.push({ table: this.#table, record: this.ticket.record })
  }
}

/** Gives records of closed loans to others, where nobody has them attached any more. */
function settle(): void {
  waiting = waiting.filter((loan) => !loan.over)
}

/**
 * Takes what the ticket stands for, for this thread, until the returned function is called.
 * @throws ERR_SPEADCAST_BATCH_STATE
 */
export function attach(ticket: LoanTicket, digestOf: DigestOf): () => void {
  const { pid, table: address, record, nonce } = ticket
  refuseUnless(pid === process.pid, () => `is of process ${pid}, and this is process ${process.pid}: share a file by Region.fromFd`)
  if (address === 0 && !tables.has(0))
    throw new SpeadcastError(
      'ERR_SPEADCAST_BATCH_STATE',
      'attachBatch: this memory is of another thread, and without native calls (Linux with koffi) threads share none: write the batch where it was made',
    )
  const words = record < RECORDS ? tableAt(address)?.words : undefined
  refuseUnless(words, unknown)
  const key = `${address} ${record} ${nonce}`
  const count = counts.get(key) ?? 0
  const at = record * RECORD_WORDS
  if (count === 0) enter(words, at + THREADS_AT)
  // The state first: where it is an older loan's, close() sees this thread; where it is the next loan's, the digest is that one's
  // too.
  const open = Atomics.load(words, at) === OPEN
  const digest = digestOf(nonce)
  const same = digest.every((word, i) => words[at + DIGEST_AT + i] === word)
  if (count === 0 && !(same && open)) leave(words, at + THREADS_AT)
  refuseUnless(same, unknown)
  refuseUnless(open, () => 'is of a batch that is closed: make another batch, and attach its handle')
  counts.set(key, count + 1)
  let held = true
  return () => {
    if (!held) return
    held = false
    const left = counts.get(key)! - 1
    if (left > 0) counts.set(key, left)
    else {
      counts.delete(key)
      leave(words, at + THREADS_AT)
    }
  }
}

const unknown = (): string =>
  'was changed, or its batch was closed: give it what batch.handle() of an open batch returned, unchanged'

function refuseUnless(good: unknown, why: () => string): asserts good {
  if (!good) throw new SpeadcastError('ERR_SPEADCAST_BATCH_STATE', `attachBatch: the handle ${why()}`)
}

/** Enters this thread's id into the record whose ids begin at that word. */
function enter(words: Int32Array, at: number): void {
  const own = threadId()
  for (let i = at; i < at + RECORD_WORDS - THREADS_AT; i++) {
    const other = Atomics.load(words, i)
    if ((other === 0 || !isAlive(other)) && Atomics.compareExchange(words, i, other, own) === other) return
  }
  refuseUnless(false, () => `is attached in ${RECORD_WORDS - THREADS_AT} threads already: close() the views that are not needed`)
}

/** A thread may have entered itself for other loans of the record meanwhile: one entry goes. */
function leave(words: Int32Array, at: number): void {
  const own = threadId()
  for (let i = at; i < at + RECORD_WORDS - THREADS_AT; i++) if (Atomics.compareExchange(words, i, own, 0) === own) return
}

let ownThread = 0

/** The kernel's id of this thread. */
function threadId(): number {
  if (ownThread !== 0) return ownThread
  try {
    ownThread = Number(process.getBuiltinModule('node:fs').readlinkSync('/proc/thread-self').split('/').at(-1))
  } catch {
    // The first thread's, which ends with the process.
    ownThread = process.pid
  }
  return ownThread
}

function isAlive(thread: number): boolean {
  return thread === process.pid || process.getBuiltinModule('node:fs').existsSync(`/proc/self/task/${thread}`)
}

/** Without native calls a table is of its thread alone, and has the address 0. */
function addTable(): void {
  const table = nativeCallsWork() ? mapTable() : { address: 0, words: new Int32Array(TABLE_BYTES / 4) }
  tables.set(table.address, table)
  for (let record = RECORDS - 1; record >= 0; record--) unused.push({ table, record })
}

function mapTable(): Table {
  const { memfd_create, ftruncate, close } = libc()
  const fd = checkCall('memfd_create', memfd_create(NAME, MFD_CLOEXEC))
  try {
    checkCall('ftruncate', ftruncate(fd, TABLE_BYTES))
    return viewOf(mapFile(fd, 0, TABLE_BYTES))
  } finally {
    close(fd)
  }
}

function tableAt(address: number): Table | undefined {
  const known = tables.get(address)
  if (known || !nativeCallsWork()) return known
  const mapped = mappings()?.some(
    ({ from, end, rights, path }) => from === address && end - from === TABLE_BYTES && rights === 'rw-s' && path === MAPPED_AS,
  )
  if (!mapped) return undefined
  const table = viewOf(address)
  tables.set(address, table)
  return table
}

function viewOf(address: number): Table {
  return { address, words: new Int32Array(koffi().view(BigInt(address), TABLE_BYTES) as ArrayBuffer) }
}
