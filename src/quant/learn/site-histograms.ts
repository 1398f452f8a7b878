/** @file Histograms of the activations that get fixed ranges. */

import type { Value } from '../../graph/ir.ts'
import { readElements } from '../../graph/tensor.ts'
import { ActivationHistogram } from '../../kernels/activation-histogram.ts'
import { chooseRange, type RangeChoice } from '../../kernels/choose-range.ts'
import type { Tensors } from '../../kernels/session.ts'
import type { SiteRanges } from './learnable.ts'
import { collectedName } from './ports.ts'
import type { StaticSite } from './ranges.ts'

/** A histogram for each of some sites, over all samples. */
export class SiteHistograms {
  private readonly histograms: ReadonlyMap<StaticSite, ActivationHistogram>

  constructor(sites: readonly StaticSite[]) {
    this.histograms = new Map(sites.map(site => [site, new ActivationHistogram()]))
  }

  /** The values of the sites, in the block. */
  get values(): Value[] {
    return [...this.histograms.keys()].map(({ value }) => value)
  }

  /** Takes in one run of a forward program that collects `values`. */
  add(outputs: Tensors): void {
    ;[...this.histograms.values()].forEach((histogram, j) =>
      histogram.add(readElements(outputs[collectedName(j)]!) as Float32Array),
    )
  }

  /** Range of every site. */
  ranges(choice: RangeChoice): SiteRanges {
    return new Map(
      [...this.histograms].map(([site, histogram]) => [site, chooseRange(histogram, choice, site.quantizer)]),
    )
  }
}
