/**
 * @file Classes of channels that share a scale, and reasons why some have none. Union-find whose links have a sign: the scale of one
 * channel is that of another, or one over it. Knows channels as numbers only.
 */

/** Channels tied to each other; those that may not be scaled have a reason. */
export class ScaleClasses {
  private readonly parent: number[] = []
  /** True for a channel whose scale is one over its parent's. */
  private readonly inverse: boolean[] = []
  private readonly members: number[] = []
  private readonly reasons = new Map<number, string>()

  get size(): number {
    return this.parent.length
  }

  /** Adds `count` channels, each a class of its own. @returns the first of their ids, which are consecutive. */
  create(count: number): number {
    const first = this.parent.length
    for (let i = 0; i < count; i++) {
      this.parent.push(first + i)
      this.inverse.push(false)
      this.members.push(1)
    }
    return first
  }

  /** The id that stands for the class of `id`. Paths are as long as the logarithm of a class. */
  root(id: number): number {
    let current = id
    while (this.parent[current] !== current) current = this.parent[current]!
    return current
  }

  /** True where the scale of `id` is one over that of its root. */
  isInverse(id: number): boolean {
    let result = false
    for (let current = id; this.parent[current] !== current; current = this.parent[current]!)
      result = result !== this.inverse[current]!
    return result
  }

  /** Makes the scale of `b` that of `a`, or one over it. `reason`: why neither can be scaled if that contradicts what was known. */
  tie(a: number, b: number, inverse: boolean, reason: string): void {
    const [rootA, rootB] = [this.root(a), this.root(b)]
    const link = (this.isInverse(a) !== this.isInverse(b)) !== inverse
    if (rootA === rootB) {
      if (link) this.refuse(a, reason)
      return
    }
    const [child, parent] = this.members[rootA]! < this.members[rootB]! ? [rootA, rootB] : [rootB, rootA]
    this.parent[child] = parent
    this.inverse[child] = link
    this.members[parent]! += this.members[child]!
    const refused = this.reasons.get(parent) ?? this.reasons.get(child)
    if (refused !== undefined) this.reasons.set(parent, refused)
  }

  /** Marks the class of `id` as one that cannot be scaled. The first reason stays. */
  refuse(id: number, reason: string): void {
    const root = this.root(id)
    if (!this.reasons.has(root)) this.reasons.set(root, reason)
  }

  /** Reason why the class of `id` cannot be scaled; undefined when it can. */
  refusal(id: number): string | undefined {
    return this.reasons.get(this.root(id))
  }
}
