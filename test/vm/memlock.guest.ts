/**
 * The limit of pinned memory: the kernel counts registered memory of processes without CAP_IPC_LOCK; the remedies in our message
 * work.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { moduleUnder } from './support.js'

const REGISTER = `
  import { Region } from '#dist/ffi/memory/region.js'
  import { VerbsContext } from '#dist/ffi/verbs/context.js'
  import { explained, loadLibrary } from '#dist/src/rdma/errors.js'
  const context = explained('ibverbs', () => VerbsContext.open(loadLibrary('ibverbs'), 'rxe0'))
  const domain = explained('ibverbs', () => context.allocateDomain())
  const told = (bytes) => {
    try {
      const region = Region.allocate(bytes, { hugePages: 'never' })
      explained('ibverbs', () => domain.register(region.address, bytes)).release()
      return 'registered'
    } catch ({ code, message, cause }) {
      return { code, message, errno: cause?.errnoName }
    }
  }
  console.log(JSON.stringify([told(32 << 10), told(4 << 20), told(32 << 10)]))
  domain.release()
  context.close()`

// execve takes only the capabilities of the bounding set, root's too.
const NO_IPC_LOCK = ['setpriv', '--bounding-set', '-ipc_lock', '--inh-caps', '-ipc_lock']
const limit = (bytes: string) => ['prlimit', `--memlock=${bytes}:${bytes}`]

const answers = async (before: readonly string[]) => {
  const { code, stdout, stderr } = await moduleUnder(before, REGISTER)
  assert.equal(code, 0, stderr)
  return JSON.parse(stdout)
}

test('a registration beyond RLIMIT_MEMLOCK fails with what helps, and smaller ones still work', async () => {
  const [small, large, again] = await answers([...limit(`${1 << 20}`), ...NO_IPC_LOCK])
  assert.equal(small, 'registered')
  assert.deepEqual([large.code, large.errno], ['ERR_SPEADCAST_BACKEND', 'ENOMEM'])
  assert.match(
    large.message,
    /^backend 'ibverbs' cannot work here: the memory cannot be locked: ibv_reg_mr failed: ENOMEM \(4194304 bytes\); raise RLIMIT_MEMLOCK: `ulimit -l unlimited`, LimitMEMLOCK=infinity in a systemd unit, or --ulimit memlock=-1 of docker$/,
  )
  assert.equal(again, 'registered')
})

test('the remedies work: a limit raised, or the capability', async () => {
  const registered = ['registered', 'registered', 'registered']
  assert.deepEqual(await answers([...limit('unlimited'), ...NO_IPC_LOCK]), registered)
  assert.deepEqual(await answers(limit(`${1 << 20}`)), registered)
})
