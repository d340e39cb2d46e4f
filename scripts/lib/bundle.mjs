// node scripts/lib/bundle.mjs DIRECTORY: moves the code of the modules that every sender loads into a few files, in place.
//
// Node needs about a millisecond to find, read, compile and link a module, again in every thread, and a sender has a hundred of
// them: that was most of the time to its first packet. A module whose code has moved stays as a file that exports it from there. So
// every importer, a test or an entry of the package, gets the one instance there is, and tests run the code that is shipped.
// Declarations are tsc's, and the maps lead to the TypeScript.
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { rolldown } from 'rolldown'
import { at } from './process.mjs'

const DIST = resolve(process.argv[2])

/** Each file holds these modules and all that they import, less what a file before it holds. */
const BUNDLES = {
  // To send by UDP from an I/O thread.
  io: [
    'ffi/affinity.js',
    'ffi/wait.js',
    'src/backend/open.js',
    'src/backend/udp/backend.js',
    'src/engine/contention.js',
    'src/engine/io-loop.js',
    'src/engine/member.js',
    'src/engine/protocol.js',
    'src/net/interface.js',
  ],
  // The rest of sending.
  main: ['ffi/loop-poll.js', 'src/index.js', 'src/engine/driver-worker.js', 'src/engine/driver-inline.js'],
  // Where there are RDMA devices, in both threads.
  verbs: ['src/backend/verbs/raw.js', 'src/backend/verbs/datagrams.js', 'src/backend/verbs/probe.js'],
}
/** This module begins to work when it is loaded and exports nothing, so it stays where it is. */
const THREAD = 'src/engine/worker'
/** The parts of this package that we use are copied into a file of ours. Nobody else needs to share our instance. */
const INLINED = 'valibot'
const LICENSE = at('node_modules', INLINED, 'LICENSE.md')

const codeOf = (file) => readFileSync(join(DIST, file), 'utf8')

/** Modules whose code has moved. */
const moved = new Set()

function closure(entries) {
  const all = new Set(entries)
  for (const file of all)
    for (const [, from] of codeOf(file).matchAll(/^(?:import|export)\s[^;]*?from '(\.[^']+)';$/gm))
      if (!moved.has(join(dirname(file), from))) all.add(join(dirname(file), from))
  return all
}

/** `pair` of each name that a module exports and the name that is its own among all modules. */
async function exportsOf(file, pair) {
  const names = Object.keys(await import(pathToFileURL(join(DIST, file))))
  return `{ ${names.map((name) => pair(name, `${file.slice(0, -3).replace(/\W/g, '_')}_${name}`)).join(', ')} }`
}

const plugin = (files, entry, root) => ({
  name: 'dist',
  resolveId(id, importer) {
    if (id === 'entry' || id === INLINED) return id === 'entry' ? id : null
    if (!id.startsWith('.')) return importer.startsWith(DIST) ? { id, external: true } : null
    const file = importer === 'entry' ? id.slice(2) : relative(DIST, join(dirname(importer), id))
    if (files.has(file) || moved.has(file) || file.startsWith('..')) return null
    return { id: `${root}${file}`, external: true }
  },
  load(id) {
    if (id === 'entry') return entry
    if (!id.startsWith(DIST)) return null
    const file = relative(DIST, id)
    if (moved.has(file)) return codeOf(file)
    const here = []
    const code = codeOf(file)
      // A thread's file is named beside the module that starts it, which is beside the bundle now.
      .replaceAll("new URL('./", `new URL('./${dirname(file)}/`)
      // import() of what is in a bundle would turn it, and all it uses, into functions that are called when they are first needed.
      .replace(/\bimport\('(\.[^']+)'\)/g, (whole, from) => {
        const target = join(dirname(file), from)
        return files.has(target) || moved.has(target) ? `Promise.resolve(here_${here.push(from) - 1})` : whole
      })
    // At the end, because the map counts the lines before.
    const imports = here.map((from, i) => `import * as here_${i} from '${from}';\n`).join('')
    return { code: `${code}\n${imports}`, map: JSON.parse(codeOf(`${file}.map`)), moduleSideEffects: true }
  },
})

async function bundle(name, files, entry) {
  const build = await rolldown({
    cwd: DIST,
    input: { [name]: 'entry' },
    platform: 'node',
    plugins: [plugin(files, entry, name.includes('/') ? '../'.repeat(name.split('/').length - 1) : './')],
  })
  const { output } = await build.generate({
    dir: DIST,
    entryFileNames: '[name].js',
    codeSplitting: false,
    sourcemap: true,
    comments: false,
    minifyInternalExports: false,
    postFooter: ({ moduleIds }) =>
      moduleIds.some((id) => id.includes(`/node_modules/${INLINED}/`))
        ? `/*! Parts of this file are from ${INLINED}:\n\n${readFileSync(LICENSE, 'utf8').trim()}\n*/`
        : '',
  })
  for (const { fileName, type, code, source } of output) writeFileSync(join(DIST, fileName), type === 'chunk' ? code : source)
}

// The tests of the bootstrap build a project of one module.
const built = existsSync(join(DIST, 'src/index.js')) ? Object.entries(BUNDLES) : []
for (const [name, entries] of built) {
  const files = closure(entries)
  const exported = []
  const facades = []
  for (const file of files) {
    const from = relative(dirname(file), `${name}.js`)
    exported.push(`export ${await exportsOf(file, (own, global) => `${own} as ${global}`)} from './${file}'\n`)
    facades.push([file, `export ${await exportsOf(file, (own, global) => `${global} as ${own}`)} from '${from}'\n`])
  }
  await bundle(name, files, exported.join(''))
  for (const [file, code] of facades) {
    writeFileSync(join(DIST, file), code)
    rmSync(join(DIST, `${file}.map`))
    moved.add(file)
  }
}
if (built.length > 0) await bundle(THREAD, new Set([`${THREAD}.js`]), `import './${THREAD}.js'`)
