/**
 * The kernel's count of packets that IPsec dropped on their way out (/proc/net/xfrm_stat, Documentation/networking/xfrm_proc.rst). A packet
 * whose policy has no state vanishes while the send says that all is well. Linux only; some 15 µs a look.
 */
const DROPS = /^XfrmOut(\w+)\s+(\d+)/gm
const FILE = '/proc/net/xfrm_stat'
const FILE_BYTES = 4096

export class IpsecDrops {
  /** As of the last look: packets dropped in silence, and packets refused (EPERM) by a policy that blocks. */
  silent = 0
  blocked = 0
  readonly #fs = process.getBuiltinModule('node:fs')
  readonly #bytes = Buffer.alloc(FILE_BYTES)
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
    let silent = 0
    const text = this.#bytes.toString('latin1', 0, this.#fs.readSync(this.#fd, this.#bytes, 0, FILE_BYTES, 0))
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
