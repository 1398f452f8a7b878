/** @file Histograms of the activations that get fixed ranges. */

import { staticShape } from '../../graph/shape.ts'
import { ActivationHistogram } from '../../kernels/activation-histogram.ts'
import { chooseRange, type RangeChoice } from '../../kernels/choose-range.ts'
import type { SiteRanges } from './learnable.ts'
import type { Observer } from './observer.ts'
import type { StaticSite } from './ranges.ts'

/** A histogram for each of some sites, over all samples. */
export class SiteHistograms {
  private readonly histograms: ReadonlyMap<StaticSite, ActivationHistogram>

  constructor(sites: readonly StaticSite[]) {
    this.histograms = new Map(sites.map(site => [site, new ActivationHistogram()]))
  }

  /** Observers of a forward run, which fill the histograms. */
  get observers(): Observer[] {
    return [...this.histograms].map(([site, histogram]) => ({
      shape: staticShape(site.value),
      over: 'each',
      emit: (_, { atSite }) => atSite(site),
      take: numbers => histogram.add(numbers),
    }))
  }

  /** Range of every site. */
  ranges(choice: RangeChoice): SiteRanges {
    return new Map(
      [...this.histograms].map(([site, histogram]) => [site, chooseRange(histogram, choice, site.quantizer)]),
    )
  }
}
