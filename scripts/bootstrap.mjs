// Runs behind `npm test`, `npm run demo` and the others: installs, builds and sets up whatever is missing, then does what was
// asked. Plain node, because in a fresh clone nothing is installed yet.
//
//   node scripts/bootstrap.mjs build                  install, build dist/, lib/ and man/
//   node scripts/bootstrap.mjs demo [ARGS]            install, build, run `speadcast demo`
//   node scripts/bootstrap.mjs docs [ARGS]            install, make the reference in docs/site
//   node scripts/bootstrap.mjs run FILE [ARGS]        install, build, set up the Python peer, run a script
//   node scripts/bootstrap.mjs test [VITEST ARGS]     install, build, set up the Python peer, test, end with a line of counts
//   node scripts/bootstrap.mjs vm [FILES]             install, build, run test/vm in a virtual machine, end with a line of counts
//
// Each part stamps what it was made from, so a second run costs milliseconds. Concurrent runs are safe: one works, the others wait.
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { lock } from './lib/mutex.mjs'
import { build, bundle, manual } from './lib/output.mjs'
import { packages } from './lib/packages.mjs'
import { peer } from './lib/peer.mjs'
import { at, checkInterrupted, interrupted, Quit, readJson, run, say, watchSignals } from './lib/process.mjs'

/** Makes those parts that are not current, in order. The lock is taken only if there is one. */
async function ensure(...parts) {
  if (parts.every((part) => part.current())) return
  mkdirSync(at('.cache'), { recursive: true })
  const onWait = ({ pid }) => say(`waiting for process ${pid}, which is setting up`)
  const release = await lock(at('.cache/bootstrap.lock'), { signal: interrupted, onWait }).catch((error) => {
    checkInterrupted()
    throw error
  })
  try {
    for (const part of parts) if (!part.current()) await part.make()
  } finally {
    release()
  }
}

async function test(args) {
  await ensure(packages, build, bundle, manual, peer)
  const temporary = mkdtempSync(join(tmpdir(), 'speadcast-counts-'))
  const file = process.env.SPEADCAST_COUNTS ?? join(temporary, 'counts.json')
  rmSync(file, { force: true })
  try {
    const reporters = ['--reporter=./scripts/vitest-counts.mjs']
    if (!args.some((arg) => arg.startsWith('--reporter'))) reporters.push('--reporter=verbose')
    const env = { SPEADCAST_COUNTS: file }
    const { status } = await run(process.execPath, [at('node_modules/vitest/vitest.mjs'), 'run', ...reporters, ...args], { env })
    const { passed, failed, skipped } = existsSync(file) ? readJson(file) : { passed: 0, failed: 0, skipped: 0 }
    // A run that failed with no failed test (nothing matched, vitest itself broke) must not read as a success.
    console.log(`speadcast: ${passed} passed, ${failed || (status === 0 ? 0 : 1)} failed, ${skipped} skipped`)
    return status || (failed > 0 ? 1 : 0)
  } finally {
    rmSync(temporary, { recursive: true, force: true })
  }
}

const runNode = (...args) => run(process.execPath, args).then(({ status }) => status)

const [what = '', ...args] = process.argv.slice(2)
const COMMANDS = {
  build: () => ensure(packages, build, bundle, manual).then(() => 0),
  demo: () => ensure(packages, build, bundle, manual).then(() => runNode(at('lib/cli.js'), 'demo', ...args)),
  docs: () => ensure(packages).then(() => runNode(at('scripts/reference.mjs'), ...args)),
  run: () => ensure(packages, build, bundle, manual, peer).then(() => runNode(...args)),
  test: () => test(args),
  vm: () => ensure(packages, build, bundle, manual).then(() => runNode(at('scripts/vm/suite.mjs'), ...args)),
}

watchSignals()
try {
  if (!Object.hasOwn(COMMANDS, what)) {
    say(`usage: node scripts/bootstrap.mjs ${Object.keys(COMMANDS).join('|')} [ARGS]`)
    throw new Quit(2)
  }
  process.exitCode = await COMMANDS[what]()
} catch (error) {
  if (!(error instanceof Quit)) throw error
  process.exitCode = error.status
}
