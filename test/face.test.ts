/** @file The types of the package: whatever its functions take or give has a name that users can import. Reads the built files. */

import { existsSync } from 'node:fs'
import { dirname, resolve, sep } from 'node:path'
import ts from 'typescript'
import { expect, test } from 'vitest'

const FACE = resolve(import.meta.dirname, '../dist/index.d.ts')
if (!existsSync(FACE)) throw new Error('dist/ is missing: run `npm run build` first')
const BUILT = dirname(FACE) + sep

/** Node of the name by which a type is used; undefined for other nodes. */
function nameIn(node: ts.Node): ts.Node | undefined {
  if (ts.isTypeReferenceNode(node)) return node.typeName
  if (ts.isExpressionWithTypeArguments(node)) return node.expression
  return ts.isImportTypeNode(node) ? node.qualifier : undefined
}

test('every type in a signature is exported itself', () => {
  const program = ts.createProgram([FACE], {
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    noLib: true,
    types: [],
  })
  const checker = program.getTypeChecker()
  const resolved = (symbol: ts.Symbol) =>
    symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol
  const face = checker.getSymbolAtLocation(program.getSourceFile(FACE)!)!
  const exported = new Set(checker.getExportsOfModule(face).map(resolved))
  expect([...exported].map(({ name }) => name)).toEqual(
    expect.arrayContaining(['quantize', 'evaluate', 'inspect', 'QuantError', 'QuantizeOptions', 'RunOptions']),
  )

  const missing = new Set<string>()
  const seen = new Set<ts.Symbol>()
  const enter = (symbol: ts.Symbol): void => {
    if (seen.has(symbol)) return
    seen.add(symbol)
    for (const declaration of symbol.declarations ?? []) visit(declaration, symbol.name)
  }
  const visit = (node: ts.Node, user: string): void => {
    const name = nameIn(node)
    const symbol = name && checker.getSymbolAtLocation(name)
    const used = symbol && resolved(symbol)
    const isOurs = used?.declarations?.[0]?.getSourceFile().fileName.startsWith(BUILT) ?? false
    if (used && isOurs && !(used.flags & ts.SymbolFlags.TypeParameter)) {
      if (!exported.has(used)) missing.add(`${used.name}, which ${user} has`)
      enter(used)
    }
    ts.forEachChild(node, child => visit(child, user))
  }
  for (const symbol of exported) enter(symbol)
  expect(seen.size).toBeGreaterThan(50)
  expect([...missing]).toEqual([])
})
