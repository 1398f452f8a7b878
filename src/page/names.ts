/** @file Short names: of linears without their layer, of models without their folders. */

/** Name without the number of its layer and what stands before it, and without other numbers: "self_attn.q_proj", "experts.up_proj". */
function withoutLayer(name: string): string {
  const parts = name.split('.')
  const layer = parts.findIndex(part => /^\d+$/.test(part))
  const rest = parts.slice(layer + 1).filter(part => !/^\d+$/.test(part))
  return rest.length === 0 ? name : rest.join('.')
}

/** The shortest endings of dotted names that tell them apart. */
export function shortNames(names: readonly string[]): ReadonlyMap<string, string> {
  const all = [...new Set(names)]
  const ending = (name: string, parts: number) => name.split('.').slice(-parts).join('.')
  const shortOf = (name: string): string => {
    const parts = name.split('.').length
    for (let count = 1; count < parts; count++)
      if (all.every(other => other === name || ending(other, count) !== ending(name, count))) return ending(name, count)
    return name
  }
  return new Map(all.map(name => [name, shortOf(name)]))
}

/** Kinds of the names of all blocks: what blocks have in common. Names that tell no layer are kinds by their place in the block. */
export function kindsOf(blocks: readonly (readonly string[])[]): readonly (readonly string[])[] {
  const isShared = (name: string) => blocks.length === 1 || blocks.filter(names => names.includes(name)).length > 1
  const kindOf = (name: string, place: number): string => {
    if (/(^|\.)\d+\./.test(name)) return withoutLayer(name)
    return isShared(name) ? name : `${place + 1}`
  }
  const kinds = blocks.map(names => names.map(kindOf))
  const short = shortNames(kinds.flat())
  return kinds.map(names => names.map(name => short.get(name)!))
}

/** Last part of a path, or the last two where the file name says nothing. */
export function modelName(path: string): string {
  const parts = path.split(/[\\/]/).filter(part => part !== '')
  const file = parts.at(-1) ?? path
  return /^(model|decoder_model(_merged)?)\.onnx$/.test(file) && parts.length > 1 ? parts.at(-2)! : file
}

/** Names of several models, with as much of their paths as tells them apart. */
export function modelNames(paths: readonly string[]): string[] {
  const short = paths.map(modelName)
  return paths.map((path, i) => {
    const isAlone = short.every((name, j) => i === j || name !== short[i] || paths[j] === path)
    return isAlone ? short[i]! : path.split(/[\\/]/).slice(-3).join('/')
  })
}
