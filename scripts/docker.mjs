// npm run test:docker [-- VITEST ARGS]: builds the images and runs test/docker against them. Uses the container engine that
// answers; else, as root on Debian, starts a private one that leaves nothing behind. docker/README.md and CONTRIBUTING.md have
// more.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { $ } from 'zx'
import { importHostBase } from './docker/base.mjs'
import { openEngine } from './docker/engine.mjs'
import { CONTEXT, SPEAD2_CONTEXT, stage, stageSpead2 } from './docker/stage.mjs'
import { at, checkInterrupted, interrupted, Quit, run, say, watchSignals } from './lib/process.mjs'

const HOST_BASE = 'speadcast-host-base'
/** The image's own base, by digest. */
const NODE_IMAGE = /^ARG BASE_IMAGE=(\S+)$/m.exec(readFileSync(at('docker/Dockerfile'), 'utf8'))[1]
const IMAGES = ['speadcast', 'speadcast-spead2', HOST_BASE]
const PULL_SECONDS = 60

const start = performance.now()
const done = (what) => say(`${what} (${((performance.now() - start) / 1000).toFixed(1)} s)`)

/** The image ids that these names have had before, to give the names back. */
function idsOf(environment) {
  const env = { ...process.env, ...environment }
  return IMAGES.map((name) => spawnSync('docker', ['images', '-q', '--no-trunc', name], { env, encoding: 'utf8' }).stdout.trim())
}

function restore(environment, before) {
  const env = { ...process.env, ...environment }
  for (const [i, name] of IMAGES.entries()) {
    spawnSync('docker', ['rmi', '-f', name], { env, stdio: 'ignore' })
    if (before[i]) spawnSync('docker', ['tag', before[i], name], { env, stdio: 'ignore' })
  }
}

/** Builds all images; returns the tests' environment. */
async function build(engine) {
  const env = { ...process.env, ...engine.environment }
  // The old builder leaves the first stage behind as an image without a name. Engines without another builder have to use it.
  const { status } = spawnSync('docker', ['buildx', 'version'], { env, stdio: 'ignore' })
  const docker = $({ env: { ...env, DOCKER_BUILDKIT: status === 0 ? '1' : '0' }, quiet: true })
  const python = at('.cache/venv/bin/python')
  await importHostBase(HOST_BASE, engine.environment, existsSync(python) ? python : undefined)
  // A private engine reaches no registry.
  const pulled =
    engine.kind === 'present' && (await docker`timeout ${PULL_SECONDS} docker pull ${NODE_IMAGE}`.nothrow()).exitCode === 0
  const base = pulled ? NODE_IMAGE : HOST_BASE
  done(`base image: ${base}`)
  checkInterrupted()
  await stage()
  await docker`docker build --network none --build-arg BASE_IMAGE=${base} -t speadcast ${CONTEXT}`
  checkInterrupted()
  const spead2 = stageSpead2(python)
  if (spead2) await docker`docker build --network none --build-arg BASE_IMAGE=${HOST_BASE} -t speadcast-spead2 ${SPEAD2_CONTEXT}`
  done(`images built without network: speadcast${spead2 ? ', speadcast-spead2' : ''}`)
  return {
    SPEADCAST_DOCKER_BASE: base,
    SPEADCAST_DOCKER_SPEAD2: spead2 ? '' : 'the Python peer is not there (.cache/venv)',
  }
}

/** Names of test files are looked for in test/docker only. */
const args = process.argv.slice(2).map((arg) => (arg.startsWith('-') ? arg : `test/docker/${arg}`))
const files = args.some((arg) => arg.startsWith('test/docker/')) ? [] : ['test/docker']
const tests = (environment) =>
  run(process.execPath, [at('scripts/bootstrap.mjs'), 'test', ...files, ...args, '--no-file-parallelism', '--test-timeout=90000'], {
    env: { ...environment, SPEADCAST_TEST_DOCKER: '1' },
  }).then(({ status }) => status)

watchSignals()
let engine
let before
try {
  try {
    engine = await openEngine(say)
    done(`container engine: ${engine.kind}`)
  } catch (error) {
    // The tests skip with this reason, and fail with it under CI.
    say(error.message)
    process.exitCode = await tests({ SPEADCAST_DOCKER_UNAVAILABLE: error.message })
  }
  if (engine) {
    before = idsOf(engine.environment)
    process.exitCode = await tests({
      SPEADCAST_DOCKER_ENVIRONMENT: JSON.stringify(engine.environment),
      ...(await build(engine)),
    })
  }
} catch (error) {
  process.exitCode = error instanceof Quit ? error.status : 1
  if (!(error instanceof Quit) && !interrupted.aborted) say(error.stderr || error.stack)
} finally {
  if (engine?.kind === 'present') restore(engine.environment, before)
  const left = (await engine?.stop()) ?? []
  if (left.length > 0) {
    say(`the private engine left: ${left.join('; ')}`)
    process.exitCode ||= 1
  }
}
