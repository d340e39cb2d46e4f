/** The types by every TypeScript that README names: what they let through and refuse, in what words, and how long a group may be. */
import { copyFileSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { project, ROOT, runIn } from '../project/support.js'

const COMPILERS = { '5.7': 'typescript-oldest', '5.9': 'typescript-5.9', '6.0': 'typescript', '7.0': 'typescript-7' }

const COMPILER_OPTIONS = {
  strict: true,
  module: 'nodenext',
  target: 'es2023',
  lib: ['es2023', 'esnext.disposable'],
  types: ['node'],
  skipLibCheck: true,
  noEmit: true,
}

const { directory, remove } = project({
  'package.json': JSON.stringify({ name: 'consumer', private: true, type: 'module' }),
  'tsconfig.json': JSON.stringify({
    compilerOptions: { ...COMPILER_OPTIONS, typeRoots: [join(ROOT, 'node_modules/@types')] },
    include: ['*.ts'],
  }),
})
afterAll(remove)
mkdirSync(join(directory, 'node_modules'))
symlinkSync(ROOT, join(directory, 'node_modules/speadcast'))
copyFileSync(join(ROOT, 'test/types/cases.ts'), join(directory, 'cases.ts'))

/** A group of 64 items in one expression, as an instrument with a stream of metadata has. */
const MANY = `import { ItemGroup, openStream } from 'speadcast'
const stream = await openStream({ to: '127.0.0.1:7148' })
const items = new ItemGroup()
${Array.from({ length: 64 }, (_, i) => `  .add({ id: ${0x1000 + i}, name: 'item_${i}', ${i % 2 ? "format: [['u', 48]]" : `dtype: '<i2', shape: [${i + 4}, 16]`} })`).join('\n')}
const batch = stream.createBatch({ items, heaps: 1 })
batch.heap(0).item_62 satisfies Int16Array
batch.immediate('item_63')
// @ts-expect-error misspelt
batch.heap(0).item_64
// @ts-expect-error an immediate
batch.heap(0).item_63
`
writeFileSync(join(directory, 'many.ts'), MANY)

/** What a user reads. */
const MISTAKES = `import { ItemGroup, openStream } from 'speadcast'
const stream = await openStream({ to: '127.0.0.1:7148' })
const items = new ItemGroup().add({ name: 'timestamp', format: [['u', 48]] }).add({ name: 'adc_samples', dtype: 'i1', shape: [64] })
const batch = stream.createBatch({ items, heaps: 1 })
batch.heap(0).adc_sample
batch.immediate('timestmp')
new ItemGroup().add({ name: 'x', dtype: 'int99' })
new ItemGroup().add({ name: 'x', dtype: 'i1', shap: [64] })
`

writeFileSync(join(directory, 'mistakes.ts'), MISTAKES)

const tsc = (compiler: string, ...args: string[]): string => {
  const { stdout, stderr } = runIn(directory, process.execPath, [join(ROOT, 'node_modules', compiler, 'bin/tsc'), ...args])
  return stdout + stderr
}

test.for(Object.entries(COMPILERS))(
  'TypeScript %s lets through what is right, takes 64 items, refuses each mistake, and says what is wrong',
  { timeout: 120_000 },
  ([version, compiler]) => {
    expect(tsc(compiler, '--version')).toContain(version)
    const said = tsc(compiler, '-p', '.').split('\n')
    expect(said.filter((line) => line !== '' && !line.startsWith('mistakes.ts'))).toEqual([])
    expect(said.filter((line) => line !== '')).toEqual([
      expect.stringMatching(
        /\(5,15\).*Property 'adc_sample' does not exist on type '\{ readonly adc_samples: Int8Array<ArrayBufferLike>; \}'\. Did you mean 'adc_samples'\?/,
      ),
      expect.stringMatching(/\(6,17\).*'"timestmp"' is not assignable to parameter of type '"timestamp"'/),
      expect.stringMatching(/\(7,34\).*'"int99"' is not assignable to type '.*DtypeText.*'/),
      expect.stringMatching(/\(8,47\).*'shap' does not exist in type .* Did you mean to write 'shape'\?/),
    ])
  },
)
