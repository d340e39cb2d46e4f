// Leaves of the declarations that tsc wrote what a user's compiler can reach from the entries: most of them describe the inside of the
// package, and the types of the inside change without notice. Works on names, not on types: a declaration is kept if a kept one names it.
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import ts from 'typescript'
import { filesIn } from './process.mjs'

/** @param entries files of `folder`, which keep all that they have */
export function prune(folder, entries) {
  const files = filesIn(folder).filter((file) => file.endsWith('.d.ts'))
  const options = { noLib: true, types: [], module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext }
  const program = ts.createProgram(
    files.map((file) => join(folder, file)),
    options,
  )
  const kept = reached(
    program,
    entries.map((entry) => program.getSourceFile(join(folder, entry))),
  )
  for (const file of files) {
    const source = program.getSourceFile(join(folder, file))
    if (!source.statements.some((statement) => kept.has(statement))) rmSync(source.fileName)
    else writeFileSync(source.fileName, textOf(source, kept))
  }
}

/** The statements, and the names in import and export statements, that are reached from all statements of the entries. */
function reached(program, entries) {
  const checker = program.getTypeChecker()
  const kept = new Set(
    entries.flatMap(({ statements }) => statements.flatMap((one) => [one, ...(one.exportClause?.elements ?? [])])),
  )
  for (const node of kept) visit(node)
  return kept

  function visit(node) {
    if (ts.isIdentifier(node)) follow(checker.getSymbolAtLocation(node))
    // The names in an import or export statement are kept by those that use them, not by the statement.
    else if (!ts.isImportDeclaration(node) && !ts.isExportDeclaration(node)) ts.forEachChild(node, visit)
  }

  function follow(symbol) {
    for (const declaration of symbol?.declarations ?? []) {
      const unit = ts.findAncestor(declaration, (node) => isName(node) || ts.isSourceFile(node.parent ?? node))
      if (ts.isSourceFile(unit) || kept.has(unit)) continue
      kept.add(unit)
      if (isName(unit)) kept.add(ts.findAncestor(unit, (node) => ts.isSourceFile(node.parent)))
    }
    if (symbol && symbol.flags & ts.SymbolFlags.Alias) {
      const next = checker.getImmediateAliasedSymbol(symbol)
      if (next && next !== symbol) follow(next)
    }
  }
}

const isName = (node) => ts.isImportSpecifier(node) || ts.isExportSpecifier(node)

function textOf(source, kept) {
  const text = source.getFullText()
  const cuts = source.statements.flatMap((statement) => {
    if (!kept.has(statement)) return [[statement.getFullStart(), statement.end]]
    const list = ts.isImportDeclaration(statement) ? statement.importClause?.namedBindings : statement.exportClause
    if (!list?.elements) return []
    const names = list.elements.filter((name) => kept.has(name))
    return names.length === list.elements.length
      ? []
      : [[list.getStart(), list.end, `{ ${names.map((name) => name.getText()).join(', ')} }`]]
  })
  return cuts.reduceRight((out, [start, end, instead = '']) => out.slice(0, start) + instead + out.slice(end), text).trimStart()
}
