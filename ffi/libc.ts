/**
 * The C functions that this package calls, one line each. They are bound at first use, so that a machine where koffi or libc cannot be
 * loaded can still import the package and run the dgram backend.
 *
 * Pointers are passed as plain Numbers through `uint64_t`, which costs 47 ns and no allocation a call
 * (docs/ground-rules.md, "Memory and koffi"). A double holds them, because user space addresses are below 2^47 on x86-64 and 2^48 on
 * arm64 (2^52 with LVA, unused by default).
 * A negative result means failure: read `errno()` in the very next statement, or use `checkCall`.
 */
import { koffi } from './koffi.js'
import { NativeError } from './native-error.js'

const PROTOTYPES = {
  mmap: 'uint64_t mmap(uint64_t addr, size_t length, int prot, int flags, int fd, int64_t offset)',
  munmap: 'int munmap(uint64_t addr, size_t length)',
  mremap: 'uint64_t mremap(uint64_t old_address, size_t old_size, size_t new_size, int flags, uint64_t new_address)',
  madvise: 'int madvise(uint64_t addr, size_t length, int advice)',
  memfd_create: 'int memfd_create(const char *name, uint flags)',
  ftruncate: 'int ftruncate(int fd, int64_t length)',
  dup: 'int dup(int fd)',
  dup3: 'int dup3(int oldfd, int newfd, int flags)',
  close: 'int close(int fd)',
  ioctl: 'int ioctl(int fd, size_t request, uint64_t argument)',
  fcntl: 'int fcntl(int fd, int cmd, int arg)',
  read: 'intptr_t read(int fd, uint64_t buf, size_t count)',
  write: 'intptr_t write(int fd, uint64_t buf, size_t count)',
  eventfd: 'int eventfd(uint initval, int flags)',
  clock_gettime: 'int clock_gettime(int clockid, uint64_t tp)',
  adjtimex: 'int adjtimex(uint64_t buf)',
  timerfd_create: 'int timerfd_create(int clockid, int flags)',
  timerfd_settime: 'int timerfd_settime(int fd, int flags, uint64_t new_value, uint64_t old_value)',
  poll: 'int poll(uint64_t fds, uint64_t nfds, int timeout)',
  ppoll: 'int ppoll(uint64_t fds, uint64_t nfds, uint64_t timeout, uint64_t sigmask)',
  epoll_create1: 'int epoll_create1(int flags)',
  epoll_ctl: 'int epoll_ctl(int epfd, int op, int fd, uint64_t event)',
  epoll_wait: 'int epoll_wait(int epfd, uint64_t events, int maxevents, int timeout)',
  socket: 'int socket(int domain, int type, int protocol)',
  bind: 'int bind(int fd, uint64_t addr, uint addrlen)',
  connect: 'int connect(int fd, uint64_t addr, uint addrlen)',
  listen: 'int listen(int fd, int backlog)',
  accept4: 'int accept4(int fd, uint64_t addr, uint64_t addrlen, int flags)',
  getsockname: 'int getsockname(int fd, uint64_t addr, uint64_t addrlen)',
  getpeername: 'int getpeername(int fd, uint64_t addr, uint64_t addrlen)',
  setsockopt: 'int setsockopt(int fd, int level, int optname, uint64_t optval, uint optlen)',
  getsockopt: 'int getsockopt(int fd, int level, int optname, uint64_t optval, uint64_t optlen)',
  sendto: 'intptr_t sendto(int fd, uint64_t buf, size_t len, int flags, uint64_t addr, uint addrlen)',
  recv: 'intptr_t recv(int fd, uint64_t buf, size_t len, int flags)',
  recvmsg: 'intptr_t recvmsg(int fd, uint64_t msg, int flags)',
  sendmsg: 'intptr_t sendmsg(int fd, uint64_t msg, int flags)',
  sendmmsg: 'int sendmmsg(int fd, uint64_t msgvec, uint vlen, int flags)',
  recvmmsg: 'int recvmmsg(int fd, uint64_t msgvec, uint vlen, int flags, uint64_t timeout)',
  prctl: 'int prctl(int option, uint64_t a, uint64_t b, uint64_t c, uint64_t d)',
  syscall: 'intptr_t syscall(intptr_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)',
  sched_getaffinity: 'int sched_getaffinity(int pid, size_t cpusetsize, uint64_t mask)',
  sched_getcpu: 'int sched_getcpu()',
  sched_setaffinity: 'int sched_setaffinity(int pid, size_t cpusetsize, uint64_t mask)',
  sched_yield: 'int sched_yield()',
  getauxval: 'uint64_t getauxval(uint64_t type)',
  setenv: 'int setenv(const char *name, const char *value, int overwrite)',
  sysconf: 'intptr_t sysconf(int name)',
} as const

type Name = keyof typeof PROTOTYPES
type Arguments = (number | string)[]
export type Libc = { readonly [K in Name]: (...args: Arguments) => number }

let bound: Libc | undefined

/** Returns the bound functions. Hoist them into locals or fields: `const { sendmmsg } = libc()`. Throws where libc cannot be loaded. */
export function libc(): Libc {
  if (bound) return bound
  const lib = koffi().load(process.platform === 'linux' ? null : 'libc.dylib')
  const table: Partial<Record<Name, (...args: Arguments) => number>> = {}
  for (const name of Object.keys(PROTOTYPES) as Name[]) {
    // A missing symbol (macOS has no sendmmsg) must fail by name where it is used, and not at load.
    try {
      table[name] = lib.func(PROTOTYPES[name]) as (...args: Arguments) => number
    } catch (cause) {
      table[name] = () => {
        throw new Error(`${name} is not in this system's C library`, { cause })
      }
    }
  }
  bound = table as Libc
  return bound
}

let usable: boolean | undefined

/** Whether native calls work here, which takes Linux and a koffi binary. Elsewhere regions are ordinary buffers and only dgram sends. */
export function nativeCallsWork(): boolean {
  if (usable === undefined) {
    usable = process.platform === 'linux'
    try {
      if (usable) libc()
    } catch {
      usable = false
    }
  }
  return usable
}

/** Returns errno of the last call made through koffi on this thread; only meaningful in the statement right after the call. */
export function errno(): number {
  return koffi().errno()
}

/** Throws NativeError if a call returned −1. Use it directly around the call: `checkCall('bind', c.bind(…))`. */
export function checkCall(call: string, result: number, detail = ''): number {
  if (result < 0) throw new NativeError(call, koffi().errno(), detail)
  return result
}

/**
 * Whether it is mmap's MAP_FAILED, (void *)-1. koffi returns that through uint64_t as an inexact Number or as a BigInt, because it exceeds
 * 2^53.
 */
export function isMapFailed(address: number | bigint): boolean {
  return Number(address) >= 2 ** 63 || Number(address) === -1
}
