/** @file Free names for new values and nodes. */

/** Hands out each name once. A graph and its subgraphs share one of these. */
export class Names {
  private readonly taken: Set<string>
  private readonly next = new Map<string, number>()

  constructor(taken: Iterable<string> = []) {
    this.taken = new Set(taken)
  }

  /** `stem`, or the first of `stem_1`, `stem_2`, ... that is free. */
  fresh(stem: string): string {
    let number = this.next.get(stem) ?? 0
    let name = number === 0 ? stem : `${stem}_${number}`
    for (; this.taken.has(name); name = `${stem}_${number}`) number++
    this.next.set(stem, number + 1)
    this.taken.add(name)
    return name
  }
}
