// Makes dist/: `node scripts/declarations.mjs FOLDER` compiles src/ and ffi/ into the folder, as tsc would, and then leaves there only
// the declarations that a user's compiler can reach from the entries of package.json, because the package holds those of dist/. Beside
// each entry it writes the declarations for CommonJS, NAME.d.cts.
//
// `require('speadcast')` gives the very module that `import` gives (lib/NAME.cjs), so a NAME.d.cts refers to the types of NAME.d.ts and
// has no copies of its own: a Stream is a Stream in both kinds of file. `export *` cannot carry the values, because a compiler takes
// NAME.d.ts in a CommonJS file as types only.
import { existsSync, writeFileSync } from 'node:fs'
import { basename, dirname, join, relative, resolve } from 'node:path'
import ts from 'typescript'
import { at, readJson } from './lib/process.mjs'
import { prune } from './lib/prune.mjs'

const outDir = resolve(process.argv[2] ?? 'dist')
const host = {
  ...ts.sys,
  onUnRecoverableConfigFileDiagnostic: (diagnostic) => report([diagnostic]),
}
const config = ts.getParsedCommandLineOfConfigFile(at('tsconfig.json'), { outDir }, host)
const program = ts.createProgram({ rootNames: config.fileNames, options: config.options })
report([...config.errors, ...ts.getPreEmitDiagnostics(program), ...program.emit().diagnostics])

const entries = Object.values(readJson(at('package.json')).exports)
  .map((conditions) => conditions.default.types.replace('./dist/', '').replace('.d.ts', ''))
  .filter((entry) => existsSync(join(outDir, `${entry}.d.ts`)))
if (entries.length > 0) {
  for (const entry of entries) writeFileSync(join(outDir, `${entry}.d.cts`), commonJs(at(`${entry}.ts`)))
  prune(
    outDir,
    entries.map((entry) => `${entry}.d.ts`),
  )
}

function report(diagnostics) {
  if (diagnostics.length === 0) return
  const names = { getCanonicalFileName: (name) => name, getCurrentDirectory: ts.sys.getCurrentDirectory, getNewLine: () => '\n' }
  process.stderr.write(ts.formatDiagnostics(diagnostics, names))
  process.exit(1)
}

/** The declarations of an entry for CommonJS files. */
function commonJs(source) {
  const checker = program.getTypeChecker()
  const symbols = checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(source)))
  const exported = new Map(symbols.map((symbol) => [resolved(symbol), symbol.name]))
  const values = symbols.filter((symbol) => isValue(symbol)).map((symbol) => [symbol.name, resolved(symbol)])
  const lines = values.flatMap(([name, symbol]) => {
    const value = `export declare const ${name}: typeof esm.${name}`
    // The constant hides what `export type *` has of that name.
    return symbol.flags & ts.SymbolFlags.Type ? [value, typeOf(name, symbol)] : [value]
  })
  const from = `'./${basename(source, '.ts')}.js' with { 'resolution-mode': 'import' }`
  return `import type * as esm from ${from}\nexport type * from ${from}\n${lines.join('\n')}\n`

  function resolved(symbol) {
    return symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol
  }

  /** Whether it is more than a type; `export type { Stream }` of a class is a type alone. */
  function isValue(symbol) {
    const typeOnly = symbol.declarations?.some((declaration) => ts.isTypeOnlyExportDeclaration(declaration))
    return !typeOnly && (resolved(symbol).flags & ts.SymbolFlags.Value) !== 0
  }

  function typeOf(name, symbol) {
    const { typeParameters = [] } = symbol.declarations.find((declaration) => declaration.typeParameters) ?? {}
    if (typeParameters.length === 0) return `export type ${name} = esm.${name}`
    // An alias may not say `const`, `in` or `out`.
    const parameters = typeParameters.map((parameter) => qualified(parameter).replace(/^(?:(?:const|in|out) )+/, ''))
    return `export type ${name}<${parameters.join(', ')}> = esm.${name}<${typeParameters.map((one) => one.name.text).join(', ')}>`
  }

  /** How a type of this package is called there. */
  function nameOf(symbol, { parent: file }) {
    if (exported.has(symbol)) return `esm.${exported.get(symbol)}`
    const path = relative(dirname(source), file.fileName)
      .replace(/^(?!\.)/, './')
      .replace(/\.ts$/, '.js')
    return `import('${path}', { with: { 'resolution-mode': 'import' } }).${symbol.name}`
  }

  /** The text of a node with this package's types as they are called here. */
  function qualified(node) {
    const text = node.getText()
    const start = node.getStart()
    const names = []
    const visit = (child) => {
      const symbol = ts.isIdentifier(child) ? checker.getSymbolAtLocation(child) : undefined
      const target = symbol && resolved(symbol)
      const declared = target?.declarations?.[0]
      const ours = declared && !declared.getSourceFile().isDeclarationFile && ts.isSourceFile(declared.parent)
      if (ours) names.push({ at: child.getStart() - start, length: child.text.length, name: nameOf(target, declared) })
      ts.forEachChild(child, visit)
    }
    visit(node)
    return names.reduceRight((out, { at, length, name }) => out.slice(0, at) + name + out.slice(at + length), text)
  }
}
