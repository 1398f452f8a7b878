/** @file Ways to round weights, as rows of two choices: the ranges that scales follow from, and the codes under these scales. */

/**
 * Ranges of groups: 'whole', from the least to the greatest weight; 'weighted', clipped by search so that the squared error of the
 * weights is least, each weighted by the mean square of its input. Learned clipping starts from them.
 */
export type RangeStart = 'whole' | 'weighted'

/**
 * Codes of weights: 'nearest'; 'learned', trained by gradients; 'gptq', solved one input channel after the other from second moments of
 * the inputs.
 */
export type CodeChoice = 'nearest' | 'learned' | 'gptq'

export type Rounding = 'nearest' | 'weighted' | 'learned' | 'weighted-learned' | 'gptq'

export interface RoundingMethod {
  readonly ranges: RangeStart
  readonly codes: CodeChoice
}

export const ROUNDINGS: Readonly<Record<Rounding, RoundingMethod>> = {
  nearest: { ranges: 'whole', codes: 'nearest' },
  weighted: { ranges: 'weighted', codes: 'nearest' },
  learned: { ranges: 'whole', codes: 'learned' },
  'weighted-learned': { ranges: 'weighted', codes: 'learned' },
  gptq: { ranges: 'weighted', codes: 'gptq' },
}

export const ROUNDING_NAMES = Object.keys(ROUNDINGS) as Rounding[]
