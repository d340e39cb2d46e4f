/** Registers a part of a reserved huge page that is not ours, in this thread or in a worker (WHERE). Prints 'registered', or why not. */
import { isMainThread, Worker } from 'node:worker_threads'
import { libc } from '#dist/ffi/libc.js'
import { VerbsContext } from '#dist/ffi/verbs/context.js'
import { VerbsLibrary } from '#dist/ffi/verbs/library.js'
import { print } from '../support/print.js'

const KIB = 1024
const PROT_READ_WRITE = 3
/** MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE */
const IN_HUGE_PAGES = 0x02 | 0x20 | 0x40000 | 0x8000

function register(): void {
  const context = VerbsContext.open(VerbsLibrary.load(), 'softnic0')
  const domain = context.allocateDomain()
  const page = libc().mmap(0, 2048 * KIB, PROT_READ_WRITE, IN_HUGE_PAGES, -1, 0)
  domain.register(page + 64 * KIB, 64 * KIB).release()
  domain.release()
  context.close()
}

if (isMainThread && process.argv[2] === 'worker') {
  const worker = new Worker(new URL(import.meta.url))
  worker.on('error', (error) => print((error as Error).message))
  worker.on('exit', (status) => status === 0 && print('registered'))
} else {
  register()
  if (isMainThread) print('registered')
}
