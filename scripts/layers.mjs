// The layer rules that biome's noRestrictedImports cannot see (the others are in biome.json):
// what may be imported for its types only, code named by `new URL(…, import.meta.url)` (worker entries), and `import('…').Type`.
import { dirname, join, relative, resolve } from 'node:path'
import ts from 'typescript'
import { fs, glob } from 'zx'

const ROOT = resolve(process.argv[2] ?? dirname(import.meta.dirname))

/** [who, what]: files below `who` may `import type` from `what`, and nothing else. */
const TYPES_ONLY = [
  ['src/backend/', 'src/batch/table.ts'],
  ['src/engine/', 'src/batch/table.ts'],
  ['src/engine/', 'src/batch/compile.ts'],
]

const roomOf = (file) => dirname(file)

/** The complaint about one node, if any. `target(specifier)` is the project file that a relative specifier names. */
function complaint(node, file, target) {
  const typesOnly = (specifier) => TYPES_ONLY.some(([who, what]) => file.startsWith(who) && target(specifier) === what)
  if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) {
    const specifier = node.moduleSpecifier?.text ?? ''
    // `import { type T }` is not enough: under verbatimModuleSyntax it still loads the module.
    const isTypeOnly = ts.isExportDeclaration(node) ? node.isTypeOnly : node.importClause?.isTypeOnly
    if (!isTypeOnly && typesOnly(specifier)) return `only \`import type\` may name ${target(specifier)} here`
  }
  if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
    const [argument] = node.arguments
    if (!argument || !ts.isStringLiteralLike(argument)) return 'import() of anything but a plain string hides what it loads'
    if (typesOnly(argument.text)) return `only \`import type\` may name ${target(argument.text)} here`
  }
  if (ts.isImportTypeNode(node) && node.argument.literal?.text.startsWith('.')) return 'write `import type`, which the lint sees'
  if (ts.isNewExpression(node) && node.expression.getText() === 'URL' && node.arguments?.[1]?.getText() === 'import.meta.url') {
    const [argument] = node.arguments
    const text = ts.isStringLiteralLike(argument) ? argument.text : ''
    if (/\.[cm]?[jt]s$/.test(text) && roomOf(target(text)) !== roomOf(file)) return `${text} is code of another room`
  }
  return undefined
}

const complaints = []
for (const file of await glob(['src/**/*.ts', 'ffi/**/*.ts'], { cwd: ROOT })) {
  const target = (specifier) => relative(ROOT, join(ROOT, dirname(file), specifier)).replace(/\.js$/, '.ts')
  const source = ts.createSourceFile(file, await fs.readFile(join(ROOT, file), 'utf8'), ts.ScriptTarget.Latest, true)
  const visit = (node) => {
    const text = complaint(node, file, target)
    if (text) complaints.push(`${file}:${source.getLineAndCharacterOfPosition(node.getStart()).line + 1}: ${text}`)
    ts.forEachChild(node, visit)
  }
  visit(source)
}

for (const text of complaints.sort()) console.error(text)
process.exitCode = complaints.length > 0 ? 1 : 0
