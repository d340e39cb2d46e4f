import { constants } from 'node:os'

/** errno names of this platform, from libuv's table (the numbers differ between Linux and macOS). */
export const ERRNO: Readonly<Record<string, number>> = constants.errno

const NAME_OF = new Map<number, string>()
for (const [name, value] of Object.entries(constants.errno)) if (!NAME_OF.has(value)) NAME_OF.set(value, name)
// os.constants has one name per number but not all of Linux's; these are the ones the network stack adds.
if (process.platform === 'linux') {
  // One number, and ENOTSUP is none of the kernel's names.
  NAME_OF.set(ERRNO.EOPNOTSUPP!, 'EOPNOTSUPP')
  for (const [name, value] of [
    ['ESHUTDOWN', 108],
    ['EHOSTDOWN', 112],
    ['ENONET', 64],
  ] as const)
    if (!NAME_OF.has(value)) NAME_OF.set(value, name)
}

export function errnoName(errno: number): string {
  return NAME_OF.get(errno) ?? `errno ${errno}`
}

/** A system or library call failed. src/ wraps it as the `cause` of a SpeadcastError that says what to do. */
export class NativeError extends Error {
  override readonly name = 'NativeError'
  readonly errnoName: string
  constructor(
    readonly call: string,
    readonly errno: number,
    detail = '',
  ) {
    const name = errnoName(errno)
    super(`${call} failed: ${name}${detail && ` (${detail})`}`)
    this.errnoName = name
  }
}
