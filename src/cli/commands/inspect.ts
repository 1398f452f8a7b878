/** @file The command `inspect`: what a file holds and what would be quantized. */

import { inspectModel } from '../../quant/inspect.ts'
import { formatInspection } from '../format.ts'
import type { InspectCommand } from '../options.ts'
import type { Outcome } from '../outcome.ts'
import type { StatusLine } from '../progress.ts'

export async function run({ options }: InspectCommand, status: StatusLine): Promise<Outcome> {
  status.say(`reading ${options.model}`)
  const report = await inspectModel(options)
  return { document: report, text: formatInspection(report) }
}
