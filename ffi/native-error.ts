import { constants } from 'node:os'
import { printable } from './printable.js'

/** Numbers of this platform by name, from libuv's table (they differ between Linux and macOS). A name that is not there is a type error. */
export const ERRNO: Readonly<typeof constants.errno> = constants.errno

const NAME_OF = new Map<number, string>()
for (const [name, value] of Object.entries(constants.errno)) if (!NAME_OF.has(value)) NAME_OF.set(value, name)
// os.constants lacks some of Linux's names; these are the ones that the network stack returns.
if (process.platform === 'linux') {
  // EOPNOTSUPP and ENOTSUP are one number, and the kernel has no name ENOTSUP.
  NAME_OF.set(ERRNO.EOPNOTSUPP, 'EOPNOTSUPP')
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

/** The error of a failed system or library call. src/ wraps it as the `cause` of a SpeadcastError that says what to do. */
export class NativeError extends Error {
  override readonly name = 'NativeError'
  readonly errnoName: string
  constructor(
    readonly call: string,
    readonly errno: number,
    detail = '',
  ) {
    const name = errnoName(errno)
    super(printable(`${call} failed: ${name}${detail && ` (${detail})`}`))
    this.errnoName = name
  }
}
