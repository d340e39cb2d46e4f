import { defineConfig } from 'vitest/config'

/** Minutes of their own: run by .ci/run, and by SPEADCAST_TEST_ALL=1 npm test. */
const HEAVY = [
  'softnic/checks',
  'acceptance/acceptance',
  'bench/bench',
  'kernel/io-uring',
  'project/bootstrap',
  ...['endurance', 'events', 'faults', 'frames', 'interop', 'lifecycle', 'neighbours', 'resources'].map(
    (name) => `ibverbs/${name}`,
  ),
].map((name) => `test/${name}.test.ts`)
/** Needs a container engine and the images: npm run test:docker. */
const DOCKER = process.env.SPEADCAST_TEST_DOCKER === '1' ? [] : ['test/docker/**']
/** Boots machines that take both cores for a minute, lest others' deadlines pass meanwhile: a stage of its own in .ci/run. */
const MACHINE = process.env.SPEADCAST_TEST_VM === '1' ? [] : ['test/vm/machine.test.ts']
const all = process.env.CI === 'true' || process.env.SPEADCAST_TEST_ALL === '1'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: [...DOCKER, ...MACHINE, ...(all ? [] : HEAVY)],
    // Child processes, not threads: what is tested loads native code, starts workers and changes network namespaces.
    pool: 'forks',
    maxWorkers: 2,
    // On two noisy cores; what is retried says so. Drawn cases keep their seed, so that they fail again.
    retry: process.env.CI === 'true' ? 1 : 0,
    expect: { requireAssertions: true },
    allowOnly: false,
    // Shows why a test was skipped.
    reporters: ['verbose'],
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
})
