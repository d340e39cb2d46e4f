// The layers: what the files of each room may import, in the order in which rooms build on one another. `npm run lint` checks it, and
// test/project/layers.test.ts plants a violation of every rule.

const KOFFI = '(^|node_modules/)koffi(/|$)'
const LEAVES = ['^src/errors\\.ts$', '^src/config[^/]*\\.ts$', '^src/stats[^/]*\\.ts$']
const ERRORS = LEAVES[0]
const TABLE = '^src/batch/table\\.ts$'
const COMPILE = '^src/batch/compile\\.ts$'

/** room: its files, what else of this project it may import, and why in words. */
const ROOMS = {
  ffi: { files: '^ffi/', may: [], comment: 'ffi imports nothing from src, and no package but koffi.' },
  leaves: {
    files: '^src/(errors|stats[^/]*)\\.ts$',
    may: [ERRORS, '^ffi/native-error\\.ts$'],
    comment: 'Errors and stats are leaves: they import nothing but errors and ffi/native-error.',
  },
  spead: { files: '^src/spead/', may: [ERRORS], comment: 'src/spead is pure: it imports its own files and errors, nothing else.' },
  net: { files: '^src/net/', may: ['^ffi/', ...LEAVES], comment: 'src/net may import ffi and the leaves (errors, config, stats).' },
  batch: {
    files: '^src/batch/',
    may: ['^ffi/region\\.ts$', '^src/spead/', ...LEAVES],
    comment: 'src/batch may import spead, ffi/region and the leaves (errors, config, stats).',
  },
  backend: {
    files: '^src/backend/',
    may: ['^ffi/', '^src/net/', TABLE, ...LEAVES],
    comment: 'src/backend may import ffi, net, the types of batch/table and the leaves (errors, config, stats).',
  },
  engine: {
    files: '^src/engine/',
    may: ['^ffi/', '^src/net/', '^src/backend/', TABLE, COMPILE, ...LEAVES],
    comment:
      'src/engine may import ffi, net, backend, the types of batch/table and batch/compile and the leaves (errors, config, stats).',
  },
  receive: {
    files: '^src/receive/',
    may: ['^ffi/', '^src/net/', '^src/spead/', ERRORS],
    comment: 'src/receive may import ffi, net, spead and errors.',
  },
  cli: {
    files: '^src/cli/',
    may: ['^src/(index|devices|errors)\\.ts$', '^src/receive/index\\.ts$'],
    comment: 'src/cli may import what the package exports (index, devices, receive/index) and errors.',
  },
  surface: {
    files: '^src/[^/]+\\.ts$',
    except: '^src/(errors|stats[^/]*)\\.ts$',
    may: ['^ffi/', '^src/(?!cli/|receive/)'],
    comment: 'The public surface does not know the command line nor the receiver, which use it.',
  },
}

/** Whatever is of this project, by path or by one of its names, or is no file of it though it looks like one. */
const OF_PROJECT = '^(src|ffi|test|scripts|docs|dist)/|^\\.\\.?/|^#dist/|^speadcast(/|$)'

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
      to: { pathNot: ['^ffi/', KOFFI, '^(src|test|scripts|docs|dist)/'], dependencyTypesNot: ['core'] },
    },
    {
      name: 'spead-imports-no-package',
      comment: 'src/spead is pure: it imports its own files and errors, nothing else.',
      severity: 'error',
      from: { path: '^src/(spead/|errors\\.ts$|stats[^/]*\\.ts$)' },
      to: { pathNot: ['^(src|ffi|test|scripts|docs|dist)/', '^\\.', KOFFI] },
    },
    {
      name: 'types-only',
      comment: 'Backends and the engine know these types; importing a value would load the batch compiler. Write `import type`.',
      severity: 'error',
      from: { path: '^src/(backend|engine)/' },
      to: { path: [TABLE, COMPILE], dependencyTypesNot: ['type-only'] },
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
