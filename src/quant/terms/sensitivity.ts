/** @file Sensitivities of the weights of a model, and the bits that are chosen from them. Plain data, for reports and files. */

/** One way to quantize a weight, with what it costs. */
export interface Candidate {
  readonly bits: number
  /** Weights along K that share a scale; as many as the weight has inputs: one scale per output. */
  readonly group: number
  readonly symmetric: boolean
  /** Bytes of codes, scales and zero points in the output. */
  readonly sizeBytes: number
  /** Mean squared error of the linear's output over its mean square, on calibration samples, rounded over searched ranges. */
  readonly error: number
  /**
   * Divergence of the logits (mean Kullback-Leibler divergence of a token, natural logarithm) when this weight alone is rounded so.
   * Measured at the candidate with the fewest bits, and estimated from there in proportion to the error.
   */
  readonly kl: number
}

/** Candidates of one weight, from the fewest bits up. */
export interface LinearSensitivity {
  readonly name: string
  readonly inFeatures: number
  readonly outFeatures: number
  readonly candidates: readonly Candidate[]
}

/** Measured table of a model: the content of a file of `--sensitivity`. */
export interface Sensitivities {
  readonly format: typeof SENSITIVITY_FORMAT
  /** Calibration tokens it was measured on. */
  readonly tokens: number
  readonly linears: readonly LinearSensitivity[]
}

export const SENSITIVITY_FORMAT = 'omniquant sensitivities 1'

/** Limit that bits are chosen for: one of the two. */
export interface ChoiceLimit {
  /** Bytes of the output: model and data files. */
  readonly maxSize?: number | undefined
  /** Divergence of the logits, as `Candidate.kl`. */
  readonly maxKl?: number | undefined
}

/** Bits that were chosen, and how they turned out. */
export interface ChoiceReport extends ChoiceLimit {
  /** Size of the output by the plan. It is an upper bound. */
  readonly plannedBytes: number
  /** Divergence that was predicted for the choice. */
  readonly predictedKl: number
  /** Divergence of the output file from the float model on samples that nothing was learned from; absent for a dry run. */
  readonly measuredKl?: number
  /** Tokens it was measured on. */
  readonly measuredTokens?: number
  /** Position of the chosen candidate of each of `sensitivities.linears`. */
  readonly chosen: readonly number[]
  /** Exceptions that give this mix again, by name of the weight: "w4g32", for a file of `--overrides`. */
  readonly overrides: Readonly<Record<string, string>>
  readonly sensitivities: Sensitivities
}
