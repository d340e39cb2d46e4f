/** What the reference says of the public names: held against the declarations, the compiler and running streams. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ERROR_CODES, openStream, type StreamOptions } from 'speadcast'
import { type JSONOutput, ReflectionKind } from 'typedoc'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ROOT, runIn } from '../project/support.js'

type Declaration = JSONOutput.DeclarationReflection
type Commented = Declaration | JSONOutput.SignatureReflection

const folder = mkdtempSync(join(tmpdir(), 'speadcast-documented-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
/** The exported names, each with the entry that exports it. */
let exported: { readonly entry: string; readonly declaration: Declaration }[] = []
beforeAll(() => {
  const file = join(folder, 'reference.json')
  const { status, stderr } = runIn(ROOT, process.execPath, ['scripts/reference.mjs', '--out', '', '--json', file])
  if (status !== 0) throw new Error(stderr)
  const project: JSONOutput.ProjectReflection = JSON.parse(readFileSync(file, 'utf8'))
  exported = project.children!.flatMap((entry) => entry.children!.map((declaration) => ({ entry: entry.name, declaration })))
}, 120_000)

const ofKind = (kinds: ReflectionKind) => exported.map(({ declaration }) => declaration).filter(({ kind }) => (kind & kinds) !== 0)
const isOptions = ({ name }: Declaration) =>
  /(Options|Init|Selection|End|Peer|ExternalMemory)$/.test(name) && name !== 'ReceiverPeer'
/** A class may be exported as a type alone; then it is an interface with methods. */
const hasMethods = ({ children = [] }: Declaration) => children.some(({ kind }) => kind === ReflectionKind.Method)
/** Whether it is a method of ours that users call by its name; the language calls the others. */
const isCalled = ({ kind, name, inheritedFrom }: Declaration) =>
  kind === ReflectionKind.Method && !inheritedFrom && !/^\[|^then$/.test(name)
const commentsOf = (declaration: Declaration): JSONOutput.Comment[] =>
  [declaration as Commented, ...(declaration.signatures ?? [])].flatMap(({ comment }) => comment ?? [])
const tagsOf = (declaration: Declaration, tag: string) =>
  commentsOf(declaration).flatMap(({ blockTags = [] }) => blockTags.filter((each) => each.tag === tag))
const textOf = (parts: readonly JSONOutput.CommentDisplayPart[]): string => parts.map(({ text }) => text).join('')
const summaryOf = (declaration: Declaration) =>
  commentsOf(declaration)
    .map(({ summary }) => textOf(summary))
    .join(' ')
const names = (declarations: readonly Declaration[]) => declarations.map(({ name }) => name)

test('what is exported has a summary', () => {
  expect(exported.length).toBeGreaterThan(90)
  expect(names(exported.map(({ declaration }) => declaration).filter((each) => summaryOf(each).length < 10))).toEqual([])
})

test('functions, classes and options have an example', () => {
  const wanted = [
    ...ofKind(ReflectionKind.Function | ReflectionKind.Class),
    ...ofKind(ReflectionKind.Interface).filter((each) => isOptions(each) || hasMethods(each)),
  ]
  expect(names(wanted)).toEqual(
    expect.arrayContaining(['openStream', 'Region', 'Stream', 'StreamOptions', 'openReceiver', 'Receiver']),
  )
  const without = wanted.filter((each) => tagsOf(each, '@example').length === 0 && !(each.name === 'HeapEntry'))
  expect(names(without)).toEqual([])
  // Objects of other packages, which nobody calls by these names.
  const foreign = ['MeterLike', 'MetricsRegistry', 'ObserverLike']
  const own = wanted.filter(({ name }) => !foreign.includes(name))
  const methods = own.flatMap(({ name: of, children = [] }) =>
    children.filter(isCalled).map((method) => ({ method, name: `${of}.${method.name}` })),
  )
  expect(methods.length).toBeGreaterThan(40)
  expect(methods.filter(({ method }) => tagsOf(method, '@example').length === 0).map(({ name }) => name)).toEqual([])
})

test('options say what they are, and optional ones their default', () => {
  const options = ofKind(ReflectionKind.Interface).filter(isOptions)
  expect(options.length).toBeGreaterThan(15)
  const properties = options.flatMap((each) => (each.children ?? []).map((property) => ({ of: each.name, property })))
  const silent = properties.filter(({ property }) => {
    const summary = summaryOf(property)
    return summary.length < 10 || (property.flags.isOptional && !/default/i.test(summary) && !NEEDS_NO_DEFAULT.has(property.name))
  })
  expect(silent.map(({ of, property }) => `${of}.${property.name}`)).toEqual([])
})
/** Optional ones that are left out for nothing, which needs no saying. */
const NEEDS_NO_DEFAULT = new Set(['signal', 'onSettled', 'value', 'memory', 'rdmaUd', 'ibverbs', 'tcp', 'pcapPath'])

test('functions say what they throw', () => {
  const silent = ofKind(ReflectionKind.Function).filter((each) => tagsOf(each, '@throws').length === 0)
  expect(names(silent)).toEqual([])
})

test('every code is explained, linked to the page of errors, and linked from what throws it', () => {
  const table = ofKind(ReflectionKind.Variable).find(({ name }) => name === 'ERROR_CODES')!
  const type = table.type as JSONOutput.ReflectionType
  const codes = type.declaration.children!
  expect(names(codes).sort()).toEqual(Object.keys(ERROR_CODES).sort())
  const linksOf = (parts: readonly JSONOutput.CommentDisplayPart[]) =>
    parts.flatMap((part) => (part.kind !== 'text' && part.kind !== 'code' && typeof part.target === 'number' ? [part.target] : []))
  for (const code of codes) {
    expect(summaryOf(code)).toContain(ERROR_CODES[code.name as keyof typeof ERROR_CODES])
    expect(linksOf(code.comment!.summary)).toHaveLength(1)
  }
  const everything = exported.flatMap(({ declaration }) => [declaration, ...(declaration.children ?? [])])
  const thrown = new Set(everything.flatMap((each) => tagsOf(each, '@throws').flatMap(({ content }) => linksOf(content))))
  expect(names(codes.filter(({ id }) => !thrown.has(id)))).toEqual([])
})

/** What examples use and do not make. */
const GIVEN: Readonly<Record<string, string>> = {
  batch:
    'Batch<{ adc_samples: Int8Array; power: BigEndianView; counts: BigEndianBigIntView; voltage: StructView<\'[("re", "<i2"), ("im", "<i2")]\'>; pulses: StructView }, \'timestamp\'>',
  beams: 'readonly string[]',
  error: 'unknown',
  fill: '(batch: AttachedBatch) => void',
  first: 'Batch',
  fourth: 'Batch',
  handle: 'BatchHandle',
  heap: 'Heap',
  heaps: 'AsyncIterable<Heap>',
  item: 'Item',
  items: 'ItemGroup',
  loop: 'Loop',
  meter: 'MeterLike',
  notifier: 'ServiceNotifier',
  openSync: '(path: string, flags: string) => number',
  other: 'Heap',
  parentPort: '{ on(event: string, listener: (value: BatchHandle) => void): void }',
  receiver: 'Receiver',
  register: 'MetricsRegistry',
  registry: 'StreamMetrics',
  region: 'Region',
  resend: '(heaps: readonly number[]) => undefined',
  response: '{ body: ReadableStream<Uint8Array> | null }',
  retry: '() => void',
  samples: 'Int8Array',
  second: 'Batch',
  server: 'MetricsServer',
  socket: '{ send(bytes: Uint8Array, port: number, address: string): void }',
  source: 'AsyncIterable<Int8Array>',
  stream: 'Stream',
  third: 'Batch',
  thread: 'IoThread',
  worker: '{ postMessage(value: unknown): void }',
  workerData: 'BatchHandle',
  writer: 'SampleWriter',
}

test('examples compile', { timeout: 60_000 }, () => {
  mkdirSync(join(folder, 'node_modules'))
  symlinkSync(ROOT, join(folder, 'node_modules/speadcast'))
  const compilerOptions = {
    rootDir: '.',
    noEmit: true,
    declaration: false,
    noUnusedLocals: false,
    verbatimModuleSyntax: false,
    lib: ['es2023', 'esnext.disposable', 'dom'],
    typeRoots: [join(ROOT, 'node_modules/@types')],
  }
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')
  writeFileSync(
    join(folder, 'tsconfig.json'),
    JSON.stringify({ extends: join(ROOT, 'tsconfig.json'), compilerOptions, include: ['*.ts'] }),
  )
  const entries = [...new Set(exported.map(({ entry }) => entry))]
  let examples = 0
  for (const { entry, declaration } of exported) {
    const tags = [declaration, ...(declaration.children ?? [])].flatMap((each) => tagsOf(each, '@example'))
    for (const { content } of tags) {
      const code = textOf(content).match(/^```\w*\n([\s\S]*)\n```/)![1]!
      const uses = (name: string, text = code) => new RegExp(`(?<![.\\w'])${name}\\b(?!:)`).test(text)
      const makes = (name: string) =>
        new RegExp(`(const|using|function\\*) (${name}\\b|\\{[^}]*\\b${name}\\b[^}]*\\} =)`).test(code)
      const own = (name: string) => (name === 'heap' && entry === 'speadcast/receive' ? 'ReceivedHeap' : GIVEN[name]!)
      const given = Object.keys(GIVEN).filter((name) => uses(name) && !makes(name))
      const lines = given.map((name) => `declare const ${name}: ${own(name)}`)
      const all = `${lines.join('\n')}\n${code}`
      const imports = entries.map((from) => {
        const used = exported.filter(({ entry: of, declaration: { name } }) => of === from && uses(name, all))
        return used.length === 0
          ? ''
          : `import { ${[...new Set(used.map(({ declaration: { name } }) => name))].join(', ')} } from '${from}'`
      })
      writeFileSync(join(folder, `example-${examples++}-${declaration.name}.ts`), `${imports.join('\n')}\n${all}\nexport {}\n`)
    }
  }
  expect(examples).toBeGreaterThan(40)
  const { stdout } = runIn(folder, process.execPath, [join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', '.'])
  expect(stdout).toBe('')
})

test.for<[string, Partial<StreamOptions>]>([
  ['udp', {}],
  ['udp with a rate', { rate: '1Gbps' }],
  ['dgram', { backend: 'dgram', interface: 'lo' }],
  ['memory', { backend: 'memory' }],
  ['pcap', { backend: 'pcap', pcapPath: join(folder, 'any.pcap') }],
])('every word and counter of stats() of %s is documented', async ([, options]) => {
  await using stream = await openStream({ to: '127.0.0.1:7148', ...options })
  const { states, ...stats } = stream.stats()
  const [words] = ofKind(ReflectionKind.TypeAlias).filter(({ name }) => name === 'StateWords')
  const known = words!.children!
  expect(names(known)).toEqual(expect.arrayContaining(Object.keys(states)))
  const [counters] = ofKind(ReflectionKind.Interface).filter(({ name }) => name === 'StreamStats')
  expect(
    names(counters!.children!)
      .filter((name) => name !== 'states' && name !== 'substreams')
      .sort(),
  ).toEqual(Object.keys(stats).sort())
})
