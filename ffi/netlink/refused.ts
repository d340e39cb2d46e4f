/** Whether this process may ask by rtnetlink(7) at all: cages of services often leave AF_NETLINK out. Linux only. */
import { ERRNO, NativeError } from '../native-error.js'
import { link } from './route.js'

const { EAFNOSUPPORT, EPROTONOSUPPORT, EOPNOTSUPP, ENOSYS, EPERM, EACCES } = ERRNO
const REFUSALS: readonly number[] = [EAFNOSUPPORT, EPROTONOSUPPORT, EOPNOTSUPP, ENOSYS, EPERM, EACCES]

/** Says why not, with the remedy; undefined where it may. About 20 µs. */
export function netlinkRefused(): string | undefined {
  try {
    link(1)
  } catch (error) {
    if (!(error instanceof NativeError)) throw error
    // The next question meets any other failure too, and tells of it.
    if (!REFUSALS.includes(error.errno)) return undefined
    return (
      `it asks for routes, links and neighbours by netlink, which this process may not use (${error.message}); allow AF_NETLINK, ` +
      'in a systemd unit by RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK, elsewhere in the seccomp profile'
    )
  }
  return undefined
}
