// The layers: what the files of each room may import, in the order in which rooms build on one another. `npm run lint` checks it, and
// test/project/layers.test.ts plants a violation of every rule.

const KOFFI = '(^|node_modules/)koffi(/|$)'
const ERRORS = '^src/errors\\.ts$'
/** The leaves that src/spead may use. */
const CHECKS = [ERRORS, '^src/checks\\.ts$']
const TELLING = ['^src/(abort-listeners|debug|events|topic)\\.ts$']
/** All of them. */
const LEAF = '^src/(abort-listeners|checks|debug|errors|events|histogram|stats|topic)\\.ts$'
const LEAVES = [LEAF]
const TABLE = '^src/batch/table\\.ts$'
const COMPILE = '^src/batch/compile\\.ts$'
/** The files that all of ffi stands on. */
const FFI_BASE = '^ffi/(koffi|libc|layout|native-error|errors|printable|inspect|environment)\\.ts$'

/** room: its files, what else of this project it may import, and why in words. */
const ROOMS = {
  ffi: { files: '^ffi/', may: [], comment: 'ffi imports nothing from src, and no package but koffi.' },
  'ffi-memory': {
    files: '^ffi/memory/',
    may: [FFI_BASE],
    comment:
      'ffi/memory may import koffi, libc, layout, native-error, errors, printable and inspect of ffi: the other rooms of ffi stand on it.',
  },
  'ffi-netlink': {
    files: '^ffi/netlink/',
    may: [FFI_BASE, '^ffi/memory/'],
    comment: 'ffi/netlink may import ffi/memory and the base of ffi.',
  },
  'ffi-socket': {
    files: '^ffi/socket/',
    may: [FFI_BASE, '^ffi/(memory|netlink)/'],
    comment: 'ffi/socket may import ffi/memory, ffi/netlink and the base of ffi.',
  },
  'ffi-verbs': {
    files: '^ffi/verbs/',
    may: [FFI_BASE, '^ffi/(memory|socket)/'],
    comment: 'ffi/verbs may import ffi/memory, ffi/socket and the base of ffi.',
  },
  leaves: {
    files: LEAF,
    may: [...CHECKS, '^src/(abort-listeners|histogram)\\.ts$', '^ffi/(native-error|errors|printable|inspect)\\.ts$'],
    comment:
      'The leaves (abort-listeners, checks, debug, errors, events, histogram, stats, topic) import nothing but abort-listeners, checks, errors, histogram, ffi/native-error, ffi/printable and ffi/inspect.',
  },
  spead: {
    files: '^src/spead/',
    may: CHECKS,
    comment: 'src/spead is pure: it imports its own files, errors and checks, nothing else.',
  },
  net: {
    files: '^src/net/',
    may: ['^ffi/', ...LEAVES],
    comment: 'src/net may import ffi and the leaves.',
  },
  rdma: {
    files: '^src/rdma/',
    may: ['^ffi/', '^src/net/', ...LEAVES],
    comment: 'src/rdma may import ffi, net and the leaves.',
  },
  batch: {
    files: '^src/batch/',
    may: ['^ffi/memory/(region|loans)\\.ts$', '^src/spead/', ...LEAVES],
    comment: 'src/batch may import spead, ffi/memory/region, ffi/memory/loans and the leaves.',
  },
  backend: {
    files: '^src/backend/',
    may: ['^ffi/', '^src/(net|rdma)/', TABLE, ...LEAVES],
    comment: 'src/backend may import ffi, net, rdma, the types of batch/table and the leaves.',
  },
  engine: {
    files: '^src/engine/',
    may: ['^ffi/', '^src/net/', '^src/backend/', TABLE, COMPILE, ...LEAVES],
    comment: 'src/engine may import ffi, net, backend, the types of batch/table and batch/compile and the leaves.',
  },
  stream: {
    files: '^src/stream/',
    may: ['^src/(batch|spead|engine|backend|net)/', '^ffi/(placement|memory/budget|clock|libc)\\.ts$', ...LEAVES],
    comment:
      'src/stream may import batch, spead, engine, backend, net, ffi/placement, ffi/memory/budget, ffi/clock, ffi/libc and the leaves; what is native is below it.',
  },
  adapters: {
    files: '^src/adapters/',
    may: ['^src/(stream|batch|spead)/', ...LEAVES],
    comment: 'src/adapters may import stream, batch, spead and the leaves.',
  },
  devices: {
    files: '^src/devices/',
    may: ['^ffi/', '^src/(net|rdma|backend)/', ...LEAVES],
    comment: 'src/devices may import ffi, net, rdma, backend and the leaves.',
  },
  receive: {
    files: '^src/receive/',
    may: ['^ffi/', '^src/(net|rdma|spead)/', ...CHECKS, ...TELLING],
    comment:
      'src/receive may import ffi, net, rdma, spead, and of the leaves abort-listeners, checks, debug, errors, events and topic.',
  },
  metrics: {
    files: '^src/metrics/',
    may: ['^src/(receive/)?index\\.ts$', ...CHECKS],
    comment: 'src/metrics may import the types of index and of receive/index, errors and checks.',
  },
  cli: {
    files: '^src/cli/',
    may: ['^src/(devices/|receive/|metrics/)?index\\.ts$', '^src/receive/credit-gate\\.ts$', ERRORS],
    comment:
      'src/cli may import what the package exports (index, devices/index, receive/index, metrics/index), errors, and receive/credit-gate.',
  },
  surface: {
    files: '^src/[^/]+\\.ts$',
    except: LEAF,
    may: ['^src/(stream|adapters|spead|batch|engine|backend|net)/', '^ffi/memory/region\\.ts$', ...LEAVES],
    comment: 'The public surface does not know the command line, the devices nor the receiver, which have entries of their own.',
  },
}

/** Everything of this project, by path or by one of its names, and everything that looks like a file of it and is none. */
const OF_PROJECT = '^(src|ffi|test|scripts|docs|dist|lib)/|^\\.\\.?/|^#dist/|^speadcast(/|$)'

export default {
  forbidden: [
    ...Object.entries(ROOMS).map(([name, { files, except, may, comment }]) => ({
      name: `layer-${name}`,
      comment,
      severity: 'error',
      from: { path: files, ...(except && { pathNot: except }) },
      to: { path: OF_PROJECT, pathNot: [name === 'surface' || name === 'leaves' ? '^$' : files, ...may] },
    })),
    {
      name: 'koffi-in-ffi-only',
      comment: 'Only ffi/ talks to koffi, and to no other package.',
      severity: 'error',
      from: { path: '^src/' },
      to: { path: KOFFI },
    },
    {
      name: 'packages-of-ffi',
      comment: 'Only ffi/ talks to koffi, and to no other package.',
      severity: 'error',
      from: { path: '^ffi/' },
      to: { pathNot: ['^ffi/', KOFFI, '^(src|test|scripts|docs|dist|lib)/'], dependencyTypesNot: ['core'] },
    },
    {
      name: 'spead-imports-no-package',
      comment: 'src/spead is pure: it imports its own files, errors and checks, nothing else.',
      severity: 'error',
      from: { path: '^src/(spead/|(checks|errors|stats)\\.ts$)' },
      to: { pathNot: ['^(src|ffi|test|scripts|docs|dist|lib)/', '^\\.', KOFFI] },
    },
    {
      name: 'types-only',
      comment: 'Backends and the engine know these types; importing a value would load the batch compiler. Write `import type`.',
      severity: 'error',
      from: { path: '^src/(backend|engine)/' },
      to: { path: [TABLE, COMPILE], dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'metrics-types-only',
      comment:
        'Metrics read streams and receivers that they are given; importing a value would load the sender. Write `import type`.',
      severity: 'error',
      from: { path: '^src/metrics/' },
      to: { path: '^src/(receive/)?index\\.ts$', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'no-circular',
      comment: 'Modules that need one another at run time cannot be loaded nor read by themselves.',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: 'specify',
    tsConfig: { fileName: 'tsconfig.json' },
  },
}
