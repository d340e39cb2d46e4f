// lib/, which users run: the code of src/ and ffi/ in a few files.
//
// Node needs about a millisecond to find, read, compile and link a module, again in every thread, and a sender has a hundred of
// them: that was most of the time to its first packet. The declarations are tsc's, in dist/; the source maps lead to the TypeScript.
//
// All files lie side by side, and an entry of a thread is named as its source is, because the code starts the file of that name beside
// itself (src/engine/thread.ts, src/receive/receiver-thread.ts), which holds in dist/ too.
import { readFileSync } from 'node:fs'
import { builtinModules } from 'node:module'
import { relative } from 'node:path'
import { defineConfig } from 'rolldown'
import { esmExternalRequirePlugin } from 'rolldown/plugins'

const ROOT = import.meta.dirname
const { dependencies } = JSON.parse(readFileSync(`${ROOT}/package.json`, 'utf8'))

/**
 * The parts of these packages that we use are copied into a file of ours, with their licence. Nobody else needs to share our instance. A
 * registry of prom-client takes metrics of another instance, because it only calls their methods.
 */
const INLINED = { valibot: 'LICENSE.md', 'prom-client': 'LICENSE' }

/**
 * Each file holds these modules and all that they import, less what a file before it holds. Modules in none of them are put together
 * by who needs them; an import() becomes a file of its own, so nobody loads what nobody asked for.
 */
const FILES = {
  // All that the command line needs to say that something is wrong.
  errors: ['src/errors.ts'],
  // To send by UDP from an I/O thread, what all backends share, and of other packages what is needed in both threads.
  io: [
    'ffi/affinity.ts',
    'ffi/environment.ts',
    'ffi/load-at-exit.ts',
    'ffi/placement.ts',
    'ffi/wait.ts',
    'src/backend/gather.ts',
    'src/backend/open.ts',
    'src/engine/contention.ts',
    'src/engine/io-loop.ts',
    'src/engine/member.ts',
    'src/engine/protocol.ts',
    'src/net/interface.ts',
    'src/net/numa.ts',
    'node_modules/valibot/dist/index.mjs',
  ],
  // The rest of sending.
  main: ['src/index.ts'],
  // Where there are RDMA devices, in both threads.
  verbs: ['src/backend/verbs/raw.ts', 'src/backend/verbs/datagrams.ts', 'src/backend/verbs/probe.ts'],
}

/**
 * NAME.cjs beside the entries, for require(): the same module, which Node loads from CommonJS since 20.19. It exists so that compilers take
 * the entry for CommonJS, and because Node 20 warns of a require() of ES modules unless it stands in node_modules.
 */
const requirable = (...names) => ({
  name: 'requirable',
  generateBundle() {
    for (const name of names)
      this.emitFile({ type: 'asset', fileName: `${name}.cjs`, source: `module.exports = require('./${name}.js')\n` })
  },
})

export default defineConfig({
  cwd: ROOT,
  input: {
    index: 'src/index.ts',
    devices: 'src/devices/index.ts',
    receive: 'src/receive/index.ts',
    metrics: 'src/metrics/index.ts',
    cli: 'src/cli/main.ts',
    worker: 'src/engine/worker.ts',
    'receiver-worker': 'src/receive/receiver-worker.ts',
  },
  external: Object.keys(dependencies),
  platform: 'node',
  resolve: { extensionAlias: { '.js': ['.ts', '.js'] } },
  // That of tsconfig.json, which rolldown does not take over: Node 20 has no `using`.
  transform: { target: 'es2023' },
  // A warning is a mistake in this file or in an import.
  onLog: (level, log, handler) => handler(level === 'warn' ? 'error' : level, log),
  plugins: [
    // prom-client is CommonJS. A require() of Node's modules would need import.meta.url, which other bundlers' CommonJS has not.
    esmExternalRequirePlugin({ external: [...builtinModules] }),
    requirable('index', 'devices', 'receive', 'metrics'),
  ],
  output: {
    dir: 'lib',
    entryFileNames: '[name].js',
    chunkFileNames: '[name].js',
    sourcemap: true,
    // The package has maps, so that traces (--enable-source-maps) name the lines of the TypeScript, and leaves the TypeScript itself, three
    // quarters of a map, to the repository.
    sourcemapExcludeSources: true,
    comments: false,
    minifyInternalExports: false,
    codeSplitting: {
      groups: Object.entries(FILES).map(([name, modules], i, { length }) => ({
        name,
        priority: length - i,
        test: (id) => modules.includes(relative(ROOT, id)),
      })),
    },
    postFooter: ({ moduleIds }) =>
      Object.entries(INLINED)
        .filter(([name]) => moduleIds.some((id) => id.includes(`/node_modules/${name}/`)))
        .map(([name, file]) => {
          const licence = readFileSync(`${ROOT}/node_modules/${name}/${file}`, 'utf8').trim()
          return `/*! Parts of this file are from ${name}:\n\n${licence}\n*/`
        })
        .join('\n'),
  },
})
