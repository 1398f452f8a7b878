/**
 * @file Limits on the parts of a model. Larger parts are refused with a message instead of filling the memory; each comment says what
 * the largest real models have. Knows no file and no graph.
 */

/**
 * Bytes of a model file without its weights. They are held in memory. A Llama of 126 blocks has 5 MB, 100 blocks of 128 experts
 * written out about 50 MB.
 */
export const MAX_STRUCTURE_BYTES: number = 256 * 2 ** 20

/**
 * Records of the structure and numbers in lists. Each becomes a value of up to 100 bytes; a message takes five times as much. 100
 * blocks of 128 experts written out, with the shape of every value, come to 10 million; 100 blocks of one to 200 000.
 */
export const MAX_RECORDS: number = 2 ** 24

/** Records that a message counts as, beside its own records. */
export const RECORDS_PER_MESSAGE = 4

/** Nodes of a file, bodies and functions included, and of the working copy. 100 blocks of 128 experts have 200 000. */
export const MAX_NODES: number = 2 ** 19

/** Bodies within bodies: exporters write two (a Loop in a branch), and each is three messages. */
export const MAX_BODY_DEPTH = 32

/** Functions that call functions: exporters have one for each nesting of modules, about eight. */
export const MAX_CALL_DEPTH = 64

/** Bytes of a name: paths of nested modules have some hundreds. */
export const MAX_NAME_BYTES = 8192

/** Dimensions of a tensor: kernels take eight. */
export const MAX_RANK = 64

/** Elements of a value: logits of a million tokens over a vocabulary of a million. */
export const MAX_ELEMENTS: number = 2 ** 40

/** Coordinates that NonZero of a constant may have, for all its elements: a mask of 2048 x 2048 tokens has 8 million. */
export const MAX_COORDINATES: number = 2 ** 24

/** Bytes of computed constants that any model may have, for tables of positions. */
const BASE_COMPUTED_BYTES = 64 * 2 ** 20

/** Computed bytes for each byte that the file stores: int4 weights as int64. */
const COMPUTED_PER_STORED_BYTE = 16

/** Computed bytes for each pair of tokens: masks and biases [heads, tokens, tokens] of 128 heads, in a few types. */
const COMPUTED_PER_PAIR = 4096

/** Most bytes of computed constants: the largest weight (a vocabulary of 256k, 16k wide) in float32, twice. */
const MAX_COMPUTED_BYTES = 2 ** 35

/** Bytes that may be moved for each byte that may exist: results are written, read, and some recomputed. */
const WORK_PER_BYTE = 32

/** Memory and work that computing the constants of a graph may take. */
export interface ComputedLimits {
  /** Bytes that exist at one time. */
  readonly bytes: number
  /** Bytes written in total; a multiplication of a product counts 4 bytes. */
  readonly work: number
}

/** Limits for a model that stores `storedBytes` and is analyzed with `tokens` tokens. */
export function computedLimits(storedBytes: number, tokens: number): ComputedLimits {
  const wanted = BASE_COMPUTED_BYTES + COMPUTED_PER_STORED_BYTE * storedBytes + COMPUTED_PER_PAIR * tokens ** 2
  const bytes = Math.min(wanted, MAX_COMPUTED_BYTES)
  return { bytes, work: WORK_PER_BYTE * wanted }
}
