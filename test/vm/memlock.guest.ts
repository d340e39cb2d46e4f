/**
 * The limit of pinned memory: the kernel counts registered memory of processes without CAP_IPC_LOCK; the remedies in our message
 * work.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ended, program } from './support.js'

// execve takes only the capabilities of the bounding set, root's too.
const NO_IPC_LOCK = ['setpriv', '--bounding-set', '-ipc_lock', '--inh-caps', '-ipc_lock']
const limit = (bytes: string) => ['prlimit', `--memlock=${bytes}:${bytes}`]

const answers = async (before: readonly string[]) => {
  const { code, stdout, stderr } = await ended([...before, ...program('register')])
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
