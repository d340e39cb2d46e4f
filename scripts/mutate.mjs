// Plants off-by-one mistakes in the built SPEAD encoder, one at a time, and demands that the tests of test/spead catch each of
// them: a proof that the tests look at the bytes. Works on a build of its own in a temporary folder; the tests import it through an
// alias.
//
//   node scripts/mutate.mjs [NAME...]      all mistakes, or those whose name contains one of the words
//
// First the unchanged copy must pass, then every changed one must fail, by a failed assertion of a test and not by a broken run.
//
// Nine mistakes chosen by hand and not Stryker: its last line for Node 20 (9.6) makes 2240 mutants of src/spead, and at one second
// each on two processors they take 19 minutes, where CI gives this stage seven. It would also have to compile its instrumented
// sources into the dist/ that the tests import, in a sandbox of its own. The nine are the off-by-one mistakes that a packet layout
// invites.
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const RUN_LIMIT_MS = 150_000

/** `from` must stand exactly once in `file`: a mistake that no longer fits the code has to be planted anew. */
const MISTAKES = [
  {
    name: 'shape dimensions one byte too wide',
    file: 'descriptor.js',
    from: '? 7 : flavour.heapAddressBits / 8)',
    to: '? 7 : flavour.heapAddressBits / 8 + 1)',
  },
  {
    name: 'item id one bit too far from the address',
    file: 'pointer.js',
    from: 'id * 2 ** (bits - 32)',
    to: 'id * 2 ** (bits - 31)',
  },
  {
    name: 'even packets one byte too large',
    file: 'plan-packed.js',
    from: 'once(load) / packets + perPacket(load)',
    to: 'once(load) / packets + perPacket(load) + 1',
  },
  {
    name: 'one byte of padding too many',
    file: 'plan-packed.js',
    from: 'Math.floor(items.count / room) + 1',
    to: 'Math.floor(items.count / room) + 2',
  },
  {
    name: 'last packet one byte short',
    file: 'plan-packed.js',
    from: 'Math.min(left, sizeBytes -',
    to: 'Math.min(left - 1, sizeBytes -',
  },
  {
    name: 'last packet of an exact layout one byte short',
    file: 'plan-exact.js',
    from: 'heapBytes - p * payloadBytes',
    to: 'heapBytes - p * payloadBytes - 1',
  },
  {
    name: 'immediates one byte to the left',
    file: 'heap.js',
    from: 'plan.immediateAt[i] + 8 - value.length',
    to: 'plan.immediateAt[i] + 7 - value.length',
  },
  {
    name: 'widest immediate refused',
    file: 'heap.js',
    from: 'entry.lengthBytes <= this.flavour.heapAddressBits / 8',
    to: 'entry.lengthBytes < this.flavour.heapAddressBits / 8',
  },
  {
    name: 'descriptors one heap too late',
    file: 'item-group.js',
    from: '- sent.descriptorHeap >= this.#frequency',
    to: '- sent.descriptorHeap > this.#frequency',
  },
]

/** The tests of test/spead against the copy; every failed test with the first line of why. */
async function run(folder) {
  const report = join(folder, 'report.json')
  rmSync(report, { force: true })
  const config = join(folder, 'vitest.config.mjs')
  const args = ['run', 'test/spead', '--config', config, '--root', root, '--bail=1', '--reporter=json', `--outputFile=${report}`]
  const child = spawn(process.execPath, [join(root, 'node_modules/vitest/vitest.mjs'), ...args], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  running.add(child)
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk) => {
      output += chunk
    })
  const timer = setTimeout(() => child.kill('SIGKILL'), RUN_LIMIT_MS)
  await new Promise((resolve) => child.on('close', resolve))
  clearTimeout(timer)
  running.delete(child)
  if (!existsSync(report)) throw new Error(`vitest left no report:\n${output.slice(-3000)}`)
  const { testResults, numPassedTests, numPendingTests } = JSON.parse(readFileSync(report, 'utf8'))
  const failed = testResults.flatMap((file) => [
    ...(file.status === 'failed' && file.assertionResults.length === 0
      ? [{ test: relative(root, file.name), why: file.message, broken: true }]
      : []),
    ...file.assertionResults
      .filter((test) => test.status === 'failed')
      .map((test) => ({
        test: `${relative(root, file.name)} > ${test.fullName}`,
        why: (test.failureMessages[0] ?? '').split('\n')[0],
      })),
  ])
  return { passed: numPassedTests, pending: numPendingTests, failed }
}

function plant(folder, { file, from, to }) {
  const path = join(folder, 'dist/src/spead', file)
  const text = readFileSync(path, 'utf8')
  if (text.split(from).length !== 2) throw new Error(`'${from}' does not stand exactly once in ${file}: plant the mistake anew`)
  writeFileSync(
    path,
    text.replace(from, () => to),
  )
  return () => writeFileSync(path, text)
}

const running = new Set()
const words = process.argv.slice(2)
const chosen = MISTAKES.filter(({ name }) => words.length === 0 || words.some((word) => name.includes(word)))
if (chosen.length === 0)
  throw new Error(`no mistake is called ${words.join(' or ')}; there are: ${MISTAKES.map((m) => m.name).join(', ')}`)

// Inside the project, so that the copy finds its dependencies and the config finds vitest.
mkdirSync(join(root, '.cache'), { recursive: true })
const folder = mkdtempSync(join(root, '.cache/mutants-'))
const clean = () => {
  for (const child of running) child.kill('SIGKILL')
  rmSync(folder, { recursive: true, force: true })
}
process.on('exit', clean)
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1))

// Compiled anew, because dist/ may be behind the sources.
execFileSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', root, '--outDir', join(folder, 'dist')], {
  stdio: ['ignore', 2, 2],
})
writeFileSync(
  join(folder, 'vitest.config.mjs'),
  `import { mergeConfig } from 'vitest/config'
import base from ${JSON.stringify(join(root, 'vitest.config.ts'))}
export default mergeConfig(base, {
  resolve: { alias: [{ find: /^#dist\\//, replacement: ${JSON.stringify(`${join(folder, 'dist')}/`)} }] },
})
`,
)

const started = Date.now()
const seconds = (since) => `${((Date.now() - since) / 1000).toFixed(1)} s`
let escaped = 0
const unchanged = await run(folder)
if (unchanged.failed.length > 0 || unchanged.passed === 0 || unchanged.pending > 0) {
  console.log(
    `the unchanged copy: ${unchanged.passed} tests passed, ${unchanged.pending} skipped (is the spead2 venv there? npm test makes it)`,
  )
  for (const { test, why } of unchanged.failed) console.log(`  failed: ${test}\n    ${why}`)
  process.exit(1)
}
console.log(`no mistake: ${unchanged.passed} tests pass (${seconds(started)})`)
for (const mistake of chosen) {
  const since = Date.now()
  const mend = plant(folder, mistake)
  const { failed } = await run(folder)
  mend()
  const [first] = failed
  if (first && !first.broken) {
    console.log(`caught: ${mistake.name} (${seconds(since)})\n  by ${first.test}\n     ${first.why.slice(0, 200)}`)
  } else {
    escaped++
    console.log(`NOT CAUGHT: ${mistake.name} in ${mistake.file}${first ? `, the run broke: ${first.why}` : ''}`)
  }
}
console.log(`${chosen.length - escaped} of ${chosen.length} planted mistakes caught, ${seconds(started)}`)
process.exit(escaped === 0 ? 0 : 1)
