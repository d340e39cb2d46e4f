import { defineConfig } from 'vitest/config'

/** Tests that take minutes together: run by .ci/run, and by SPEADCAST_TEST_ALL=1 npm test. */
const HEAVY = [
  'softnic/checks',
  'acceptance/acceptance',
  'bench/bench',
  'interop/examples',
  'cli/flat-memory',
  'cli/live-view',
  'cli/completion',
  'cli/help-pages',
  'cli/json-errors',
  'cli/bench-agent',
  'cli/bench',
  'cli/metrics',
  'cli/options',
  'cli/printable',
  'cli/terminal',
  'cli/recv',
  'cli/recv-options',
  'cli/transport-flags',
  'cli/service',
  'cli/usage',
  'interop/cli-items',
  'interop/fleet',
  'project/bootstrap',
  'project/examples',
  'project/man',
  'project/pack-types',
  'project/pack-bundle',
  'project/runtimes',
  'project/systemd',
  'devices/doctor',
  'engine/driver-exit',
  'engine/thread-restart',
  'kernel/on-error',
  'ibverbs/on-error',
  'ibverbs/thread-restart',
  'interop/coming-from-spead2',
  'net/dad',
  'reference/documented',
  'reference/site',
  'net/cage',
  'receive/cli',
  'receive/differential',
  'receive/ends',
  'receive/memberships',
  'receive/memory',
  'receive/pcap-programs',
  'receive/senders',
  'receive/wakeups',
  'stream/exit',
  'stream/placement',
  'tcp/sender',
  'tcp/digests',
  'tcp/receiver-crowd',
  'tcp/receiver-fuzz',
  'stream/io-threads',
  'metrics/slow-clients',
  'tcp/kill',
  'tcp/loop-windows',
  'stream/two-streams',
  'types/types',
  ...[
    'clock',
    'descriptor-timer',
    'descriptors',
    'events',
    'evidence',
    'host-changes',
    'legs',
    'mtu',
    'order',
    'outcome',
    'segmentation',
    'source',
    'trouble',
    'rate-method',
    'truncated',
    'zero-copy',
  ].map((name) => `kernel/${name}`),
  'ibverbs/commands',
  'ibverbs/hosts',
  ...['endurance', 'events', 'faults', 'frames', 'host-changes', 'interop', 'lifecycle', 'loop', 'neighbours', 'resources'].map(
    (name) => `ibverbs/${name}`,
  ),
].map((name) => `test/${name}.test.ts`)
/** Tests that need a container engine and the images: npm run test:docker. */
const DOCKER = process.env.SPEADCAST_TEST_DOCKER === '1' ? [] : ['test/docker/**']
/**
 * Boots machines that take both cores for a minute. Other tests would miss their deadlines, so .ci/run gives it a stage of its own.
 */
const MACHINE = process.env.SPEADCAST_TEST_VM === '1' ? [] : ['test/vm/machine.test.ts']
const all = process.env.CI === 'true' || process.env.SPEADCAST_TEST_ALL === '1'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: [...DOCKER, ...MACHINE, ...(all ? [] : HEAVY)],
    // Child processes, not threads, because the library loads native code, starts workers and changes network namespaces.
    pool: 'forks',
    // The package runs as users load it. It is large, and vite would transform it again for every test file.
    server: { deps: { external: [/\/lib\/[\w-]+\.js$/] } },
    maxWorkers: 2,
    // For two noisy cores. A retried test says so, and drawn cases keep their seed, so that they fail again.
    retry: process.env.CI === 'true' ? 1 : 0,
    expect: { requireAssertions: true },
    allowOnly: false,
    // Covers what decodes packets from anybody (`npm run test:fuzz`), by the source maps of dist/.
    coverage: {
      include: [
        'dist/src/receive/{decode,received-descriptor,assemble,assembled-heap,items,ranges,live-heaps,finished-heaps,sender,senders,sequence}.js',
        'dist/src/receive/descriptors/*.js',
        'dist/src/spead/numpy/*.js',
      ],
      reporter: ['text'],
      thresholds: { branches: 95 },
    },
    // Shows why a test was skipped.
    reporters: ['verbose'],
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
})
