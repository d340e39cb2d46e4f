/**
 * The kernel's count of packets that IPsec dropped on their way out (/proc/net/xfrm_stat, Documentation/networking/xfrm_proc.rst). A packet
 * whose policy has no state vanishes while the send says that all is well. Linux only; some 15 µs a look, which allocates nothing while the counts
 * stay as they are.
 */
const DROPS = /^XfrmOut(\w+)\s+(\d+)/gm
const FILE = '/proc/net/xfrm_stat'
const FILE_BYTES = 4096

export class IpsecDrops {
  /** As of the last look: packets dropped in silence, and packets refused (EPERM) by a policy that blocks. */
  silent = 0
  blocked = 0
  readonly #fs = process.getBuiltinModule('node:fs')
  #bytes = Buffer.alloc(FILE_BYTES)
  /** The file as of the last look. */
  #before = Buffer.alloc(FILE_BYTES)
  #fd = -1

  constructor() {
    try {
      this.#fd = this.#fs.openSync(FILE, 'r')
    } catch {
      // A kernel without IPsec, or a sandbox without /proc: nothing to see.
    }
    this.look()
  }

  look(): void {
    if (this.#fd < 0) return
    // Counts only grow, so what lies behind a shorter text is never taken for its end.
    const length = this.#fs.readSync(this.#fd, this.#bytes, 0, FILE_BYTES, 0)
    if (this.#bytes.equals(this.#before)) return
    const text = this.#bytes.toString('latin1', 0, length)
    const before = this.#before
    this.#before = this.#bytes
    this.#bytes = before
    let silent = 0
    for (const [, name, count] of text.matchAll(DROPS))
      if (name === 'PolBlock') this.blocked = Number(count)
      else silent += Number(count)
    this.silent = silent
  }

  close(): void {
    if (this.#fd >= 0) this.#fs.closeSync(this.#fd)
    this.#fd = -1
  }
}
