/** @file Figures of a report about the learning of a block: its losses, and for each linear and each transformation what came of it. */

/** Numbers sorted by size, at five places. */
export interface Spread {
  readonly least: number
  /** A quarter of the numbers is less. */
  readonly lower: number
  readonly median: number
  /** A quarter of the numbers is greater. */
  readonly upper: number
  readonly greatest: number
}

/** Course of the loss of training. */
export interface LossCurve {
  /** Steps of training: one sample each. */
  readonly steps: number
  /** Steps that a mean is taken over: an epoch, or a part of it where there is one epoch only. */
  readonly window: number
  /**
   * Mean losses of windows of steps, from the window at the beginning to that at the end, as far apart from each other as can be; NaN, in
   * JSON null, where no loss of a window was finite.
   */
  readonly means: readonly number[]
}

/**
 * Relative error of a linear's output that comes from its weight: |x W - x Wq|^2 / |x W|^2, over inputs x from a few calibration samples
 * in the quantized block. W is the weight as learned transformations leave it, Wq the stored one. Absent where it is not a finite number.
 */
export interface LinearError {
  /** With the weight rounded to nearest. */
  readonly rounded?: number
  /** With everything that was learned, also where the block was rounded in the end. */
  readonly learned?: number
}

/** One quantized linear. */
export interface LinearReport {
  readonly name: string
  readonly bits: number
  /** Inputs that share a scale. */
  readonly group: number
  /** Absent where its block was not run. */
  readonly error?: LinearError
  /** Shares of their whole ranges that groups of weights are quantized over, at both ends; absent where no clipping was learned. */
  readonly clipping?: Spread
}

/** Scales that a transformation was learned with: channels are divided by them, and what reads the channels is multiplied. */
export interface ScalesReport {
  /** Name of the transformation. */
  readonly mapping: string
  readonly scales: Spread
}
