/** Registers 32 KiB, 4 MiB and 32 KiB with rxe0. Prints 'registered' or the error of each, as JSON. */
import { Region } from '#dist/ffi/memory/region.js'
import { VerbsContext } from '#dist/ffi/verbs/context.js'
import { explained, loadLibrary } from '#dist/src/rdma/errors.js'

const context = explained('ibverbs', () => VerbsContext.open(loadLibrary('ibverbs', undefined), 'rxe0'))
const domain = explained('ibverbs', () => context.allocateDomain())

function registered(bytes: number): unknown {
  try {
    const region = Region.allocate(bytes, { hugePages: 'never' })
    explained('ibverbs', () => domain.register(region.address, bytes)).release()
    return 'registered'
  } catch (error) {
    const { code, message, cause } = error as Error & { code?: string; cause?: { errnoName?: string } }
    return { code, message, errno: cause?.errnoName }
  }
}

console.log(JSON.stringify([registered(32 << 10), registered(4 << 20), registered(32 << 10)]))
domain.release()
context.close()
