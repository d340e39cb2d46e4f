// The reference implementation, spead2 from PyPI, in a virtual environment of its own: the tests' peer. Tests that need it say why
// they skip where it cannot be had (test/support/peer.ts).
import { existsSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { at, digest, Quit, read, say, step } from './process.mjs'

const REQUIREMENTS = ['spead2==4.5.1', 'numpy']
const VENV = at('.cache/venv')
const PYTHON = join(VENV, 'bin/python')
const STAMP = join(VENV, '.stamp')
/** Holds the reason of a failed setup; another try is made after RETRY_MS, or at once under CI. */
const FAILED = at('.cache/venv.failed')
const RETRY_MS = 10 * 60_000

const wanted = () => digest(REQUIREMENTS, process.platform, process.arch)
const missing = (why) => say(`no spead2 peer, so tests that need it skip: ${why} (to try again at once: rm .cache/venv.failed)`)

function current() {
  if (process.env.SPEADCAST_TEST_PYTHON) return true
  if (read(STAMP) === wanted() && existsSync(PYTHON)) return true
  if (process.env.CI === 'true' || !existsSync(FAILED)) return false
  if (Date.now() - statSync(FAILED).mtimeMs > RETRY_MS) return false
  missing(read(FAILED))
  return true
}

const PIP_INSTALL = [
  '-m',
  'pip',
  'install',
  '--quiet',
  '--disable-pip-version-check',
  '--only-binary=:all:',
  '--retries=2',
  '--timeout=20',
]
const IMPORT = ['-c', "import numpy, spead2, spead2.recv, spead2.send; assert spead2.__version__ == '4.5.1', spead2.__version__"]

async function attempt(command, args) {
  const { status, output } = await step(command, args, { stdio: ['ignore', 'pipe', 'pipe'], timeoutMs: 5 * 60_000 })
  if (status !== 0) throw new Error(output.trim().split('\n').at(-1) || `${command} ${args.join(' ')} exited with ${status}`)
}

async function make() {
  rmSync(FAILED, { force: true })
  try {
    if (process.platform === 'win32') throw new Error('spead2 has no build for Windows')
    const there =
      existsSync(PYTHON) &&
      (await attempt(PYTHON, IMPORT).then(
        () => true,
        (error) => error instanceof Quit && Promise.reject(error),
      ))
    if (!there) {
      say(`setting up the Python peer (${REQUIREMENTS.join(', ')})`)
      await attempt('python3', ['-m', 'venv', '--clear', VENV])
      await attempt(PYTHON, [...PIP_INSTALL, ...REQUIREMENTS])
      await attempt(PYTHON, IMPORT)
    }
    writeFileSync(STAMP, wanted())
  } catch (error) {
    // Half an environment would look like a peer to the tests.
    rmSync(VENV, { recursive: true, force: true })
    if (error instanceof Quit) throw error
    writeFileSync(FAILED, error.message)
    missing(error.message)
  }
}

export const peer = { current, make }
