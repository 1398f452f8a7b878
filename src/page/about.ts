/** @file Facts about a run that its report does not hold, and about the software. */

import { createRequire } from 'node:module'
import { runtimeVersion } from '../kernels/session.ts'
import { deviceLine } from '../engine/choose-device.ts'
import type { Ran } from '../engine/messages.ts'
import { type Content, markup } from './html.ts'

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string }

/** Facts that a page shows besides those of the report. */
export interface About {
  /** Command line of the run. */
  readonly command?: string | undefined
  /** Time of the run, as text. Without it, the same report gives the same bytes at any time. */
  readonly date?: string | undefined
}

/** Fields that tell of the process, where the report has them. */
interface Process extends Partial<Ran> {
  readonly threads?: number
}

/** Device, threads and versions. */
export const softwareFacts = (
  { device, threads }: Process,
  { date }: About,
): (readonly [name: string, value: Content])[] => [
  ['Device', device && deviceLine(device).replace(/^device: /, '')],
  ['Threads', threads],
  [
    'Versions',
    `omniquant ${version}, onnxruntime ${runtimeVersion}, Node.js ${process.version}, ${process.platform} ${process.arch}`,
  ],
  ['Date', date],
]

/** The command line, each argument in one piece where there is room. */
export const commandOf = ({ command }: About): Content =>
  command !== undefined &&
  markup`<code>${command.split(' ').map(argument => markup`<span class="argument">${argument} </span>`)}</code>`

/** Last line of a page. */
export const madeBy = ({ date }: About): string =>
  `Made by omniquant ${version}${date === undefined ? '' : `, ${date}`}.`
