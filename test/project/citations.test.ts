/** Comments and documents send their readers to files, sections and names of this repository: those have to be there. */
import { readdirSync, readFileSync } from 'node:fs'
import { join, posix } from 'node:path'
import { expect, test } from 'vitest'
import { ROOT } from './support.js'

const ROOMS = ['src', 'ffi', 'test', 'scripts', 'docs', 'docker']
const NOT_OURS = /(^|\/)(node_modules|__pycache__|build|docs\/site)\//

/** Path → text of what people read: code, scripts, documents. */
type Tree = ReadonlyMap<string, string>

/** Files of others that comments cite: kernel and C library headers, and the sources of the kernel, of rdma-core and of libuv. */
const OF_OTHERS = [
  /^(asm-generic|bits|infiniband|linux|net|netinet|rdma|sys)\/[\w-]+\.h$/,
  /^(capability|common_defines|errno|rdma_cma|sysexits|verbs)\.h$/,
  /^(kernel|mm|net|src\/unix)\/([\w-]+\/)?\w+\.c$/,
  /^(netkit|tun|veth)\.c$/,
  /^Documentation\/networking\//,
  /^index\.d\.ts$/, // koffi's
]
/** No files: a name, placeholders, what programs write where they run, and what a reader saves. */
const NO_FILES = [/^Node\.js$/, /(^|\/)NAME\./, /^speadcast-acceptance\//, /^job\.sh$/, /^example\.mts$/]

/** Strings and regular expressions are matched too, so that what looks like a comment in them is none. */
const CODE =
  /'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\.)*`|(?<=(?:^|[(,=:[!&|?{};>])\s*)\/(?![*/])(?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/|\/\/.*|\/\*[\s\S]*?\*\//gm
const CITED = /(?<![\w*…./-])((?:[\w@.-]+\/)*[\w@-][\w@.-]*\.(?:md|rst|m?ts|[mc]?js|c|cpp|h|py|sh))(?!\w|-|\.\w)/g

/** The prose of a file, on one line: comments of code, the text of documents without their programs. */
function prose(file: string, text: string): string {
  if (/\.(m?ts|m?js|c|h)$/.test(file)) {
    const comments = text.match(CODE)?.filter((match) => /^\/[/*]/.test(match)) ?? []
    return comments
      .map((comment) => comment.replace(/^\s*(\/\*\*?|\*\/|\*|\/\/)/gm, ''))
      .join(' ')
      .replace(/\s+/g, ' ')
  }
  if (file.endsWith('.md')) return text.replace(/^\s*```[\s\S]*?^\s*```/gm, '').replace(/\s+/g, ' ')
  if (/\.(py|sh|ya?ml)$|Dockerfile|Makefile/.test(file))
    return (text.match(/"""[\s\S]*?"""|(?<=^|\s)#.*/g) ?? [])
      .join(' ')
      .replace(/(^|\s)#+/g, ' ')
      .replace(/\s+/g, ' ')
  return ''
}

/** The file that a citation means: beside the citing one, from the root, or from one of the rooms; in documents anywhere. */
function meant(tree: Tree, file: string, cited: string): string | undefined {
  const path = cited.replace(/^(\.\.?\/)+/, '').replace(/^dist\//, '')
  for (const name of [path, path.replace(/\.js$/, '.ts'), path.replace(/\.js$/, '.mjs')]) {
    const beside = posix.join(posix.dirname(file), name)
    if (tree.has(beside)) return beside
    if (tree.has(name)) return name
    if (!name.includes('/') && !file.endsWith('.md')) continue
    const elsewhere = [...tree.keys()].find((other) => other.endsWith(`/${name}`))
    if (elsewhere) return elsewhere
  }
  return undefined
}

const headings = (text: string): string[] => [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading]) => heading!)

/** As GitHub makes anchors of headings. */
const anchor = (heading: string): string =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-')

/** Citations of something that is not there, as `file: citation`. */
function missing(tree: Tree): string[] {
  const found: string[] = []
  for (const [file, text] of tree) {
    const words = prose(file, text).replace(/https?:\/\/\S+/g, '')
    const lacks = (what: string) => found.push(`${file}: ${what}`)
    for (const [, cited] of words.matchAll(CITED))
      if (![...OF_OTHERS, ...NO_FILES].some((pattern) => pattern.test(cited!)) && !meant(tree, file, cited!)) lacks(cited!)
    for (const [, document, section] of words.matchAll(/([\w./-]+\.md)\)?, "([^"]+)"/g)) {
      const target = meant(tree, file, document!)
      if (target && !headings(tree.get(target)!).includes(section!)) lacks(`${document}, "${section}"`)
    }
    if (!file.endsWith('.md') && /ground-rules\.md(?!, ")/.test(words)) lacks('ground-rules.md without a section')
    for (const [, path, name] of words.matchAll(/`([\w./-]+\.\w+)`: `(#?\w+)`/g)) named(path!, name!)
    for (const [, name, path] of words.matchAll(/`(#?\w+)` of `([\w./-]+\.\w+)`/g)) named(path!, name!)
    if (file.endsWith('.md')) for (const [, target] of words.matchAll(/\]\(([^)\s]+)\)/g)) linked(target!)

    function named(path: string, name: string): void {
      const target = meant(tree, file, path)
      if (target && !new RegExp(`(?<![#\\w])${name}\\b`).test(tree.get(target)!)) lacks(`${name} of ${path}`)
    }

    function linked(target: string): void {
      const [path, fragment] = target.split('#') as [string, string?]
      const to = path === '' ? file : posix.join(posix.dirname(file), path)
      const folder = `${to.replace(/\/$/, '')}/`
      const there = tree.get(to) ?? (to === '.' || [...tree.keys()].some((other) => other.startsWith(folder)) ? '' : undefined)
      if (there === undefined || (fragment !== undefined && !headings(there).map(anchor).includes(fragment)))
        lacks(`link to ${target}`)
    }
  }
  return found
}

function repository(): Tree {
  const entries = ['', ...ROOMS].flatMap((room) =>
    readdirSync(join(ROOT, room), { recursive: room !== '', withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => posix.relative(ROOT, posix.join(entry.parentPath, entry.name))),
  )
  const tree = new Map<string, string>()
  for (const file of entries.filter((path) => !NOT_OURS.test(path)))
    tree.set(file, /\.(png|jsonl)$/.test(file) ? '' : readFileSync(join(ROOT, file), 'utf8'))
  return tree
}

const PLANTED: readonly (readonly [file: string, text: string, found: string | undefined])[] = [
  ['src/net/a.ts', '// as notes.md says', 'notes.md'],
  ['src/net/a.ts', '/** See (gone.ts) for\n * more. */', 'gone.ts'],
  ['src/net/a.ts', "/** The room's `engine/gone.ts`. */", 'engine/gone.ts'],
  ['src/net/a.ts', '// in another room: ring.ts', 'ring.ts'],
  ['src/net/a.ts', '// with its room: engine/ring.ts, and src/engine/ring.ts', undefined],
  ['src/net/a.ts', "export const url = 'https://example.org/gone.md' // no comment says gone", undefined],
  ['src/net/a.ts', "export const file = 'gone.ts'\nexport const like = /'gone.ts/", undefined],
  ['src/net/a.ts', 'export const half = (x: number) => x / 2 // see gone.ts', 'gone.ts'],
  ['src/net/a.ts', '// linux/udp.h, 10.0.0.1, a.b.c.d, wr.next and *.test.ts are none of ours', undefined],
  ['test/a.c', '/* made by gone.mjs */', 'gone.mjs'],
  ['scripts/a.py', '"""Reads what\ngone.py wrote."""', 'gone.py'],
  ['docker/a.yaml', '# built by gone.sh', 'gone.sh'],
  ['docs/a.md', 'in `ring.ts`, said in\n`gone.ts`', 'gone.ts'],
  ['docs/a.md', '```sh\nnode gone.mjs\n```', undefined],
  ['src/net/a.ts', '// (docs/ground-rules.md, "V8")', undefined],
  ['src/net/a.ts', '/**\n * A fact (docs/ground-rules.md,\n * "V8").\n */', undefined],
  ['src/net/a.ts', '// (docs/ground-rules.md, "V9")', 'docs/ground-rules.md, "V9"'],
  ['src/net/a.ts', '// see docs/ground-rules.md', 'ground-rules.md without a section'],
  ['docs/a.md', '`src/engine/ring.ts`: `SLOTS`, and `SLOTS` of `src/engine/ring.ts`', undefined],
  ['docs/a.md', '`src/engine/ring.ts`: `#slots`', '#slots of src/engine/ring.ts'],
  ['docs/a.md', '`SLOT` of `src/engine/ring.ts`', 'SLOT of src/engine/ring.ts'],
  ['docs/a.md', '[there](ground-rules.md#v8), [a folder](../src/engine), [gone](../gone)', 'link to ../gone'],
  ['docs/a.md', '[not](ground-rules.md#v9)', 'link to ground-rules.md#v9'],
]

test.for(PLANTED)('planted in %s: %j', ([file, text, found]) => {
  const others = { 'src/engine/ring.ts': 'export const SLOTS = 1', 'docs/ground-rules.md': '# Rules\n\n## V8\n' }
  expect(missing(new Map(Object.entries({ ...others, [file]: text })))).toEqual(found === undefined ? [] : [`${file}: ${found}`])
})

test('every file, section and name that comments and documents cite is there', () => {
  expect(missing(repository())).toEqual([])
})
