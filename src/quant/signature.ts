/** @file Signature of a run: what must be equal for a run to go on where an earlier one ended. */

import { createRequire } from 'node:module'
import { arch, availableParallelism } from 'node:os'
import { basename } from 'node:path'
import { digestOf, digestOfBytes } from '../files/digest.ts'
import type { Signature } from '../files/work-folder.ts'
import { modelFiles } from '../graph/onnx-file/model-files.ts'
import { runtimeVersion } from '../kernels/session.ts'
import type { Analysis } from './find/analysis.ts'
import { calibrates } from './learn/learnables.ts'
import { rulesText } from './plan/weight-rules.ts'
import type { ResolvedOptions } from './terms/options.ts'
import { ROUNDINGS } from './terms/roundings.ts'
import { schemeName, weightOverrideName } from './terms/scheme.ts'

/**
 * Everything that decides the result of a run, made of resolved options: a default that is typed out makes no other run. The device is
 * not part of it: devices differ in the last bits only, and a run whose device failed goes on on another one.
 * @param options with the threads that are used. @param times as in `digestOf`.
 */
export function signatureOfRun(options: ResolvedOptions, analysis: Analysis, times: boolean = true): Signature {
  const { scheme, calib, params, session, choosing } = options
  const settings = {
    scheme: schemeName(scheme),
    exceptions: rulesText(options) || undefined,
    'largest size': choosing?.maxSize,
    'largest divergence': choosing?.maxKl,
    candidates: choosing?.candidates.map(weightOverrideName).join(' '),
    format: options.format,
    'accuracy level': options.accuracyLevel,
    'lm_head bits': options.lmHead,
    'embedding bits': options.embedding,
    float16: options.float16 || undefined,
    'lookup in embeddings': options.lookup,
    clipping: options.lwc,
    rounding: options.rounding,
    'learning rate of rounding':
      ROUNDINGS[options.rounding].codes === 'learned' ? options.roundingLearningRate : undefined,
    'start of ranges': scheme.activations?.kind === 'static' ? options.range : undefined,
    'learned ranges': scheme.activations ? options.learnRanges : undefined,
    transformations: options.let,
    samples: options.samples,
    'sequence length': analysis.seqLen,
    epochs: options.epochs,
    seed: options.seed,
    'learning rate': options.learningRate,
    'learning rate of transformations': options.let ? options.letLearningRate : undefined,
    'learned gains': options.learnGains || undefined,
    schedule: options.schedule,
    'most work': options.maxWork,
    'time budget in ms': options.timeBudgetMs,
    optimizer: options.optimizer,
    'number of devices': session.devices?.length,
    alpha: options.alpha,
    'augmented loss': options.augLoss,
    'loss behind the next block': options.lookahead || undefined,
    'hidden states': options.hiddenStates === 'float32' ? undefined : options.hiddenStates,
    'kept cache': options.keepCache,
    'cache shared with': analysis.partner,
    'learned parameters': params === undefined ? undefined : digestOf([params], times),
    'matrix products': session.matmul,
  }
  const calibrated = calibrates(options) || choosing !== undefined
  return signatureOf(modelFiles(analysis.model), calibrated ? calib : undefined, settings, session.threads, times)
}

/** Version of omniquant. */
export const version: string = (createRequire(import.meta.url)('../../package.json') as { version: string }).version

/** Entries that say where a run works, not what it makes. */
const MACHINE = ['onnxruntime', 'threads']

/** Digest of what a run is to make: equal for equal options on copies of the same files, on any machine. */
export function runDigest(options: ResolvedOptions, analysis: Analysis): string {
  const entries = Object.entries(signatureOfRun(options, analysis, false)).filter(([key]) => !MACHINE.includes(key))
  return digestOfBytes(JSON.stringify(entries))
}

/**
 * Signature of files, settings and machine.
 * @param modelFiles model and data files.
 * @param calib file of text or tokens.
 * @param settings everything else that decides the result, by the words of users; entries that are undefined are left out.
 * @param threads their number decides the order of sums, and so the last bits. @param times as in `digestOf`.
 */
export function signatureOf(
  modelFiles: readonly string[],
  calib: string | undefined,
  settings: Readonly<Record<string, unknown>>,
  threads: number | undefined,
  times: boolean = true,
): Signature {
  return {
    omniquant: version,
    onnxruntime: `${runtimeVersion} on ${arch()}`,
    threads: String(threads ?? availableParallelism()),
    model: `${basename(modelFiles[0]!)} (content ${digestOf(modelFiles, times)})`,
    'calibration text':
      calib === undefined ? "the model's own" : `${basename(calib)} (content ${digestOf([calib], times)})`,
    ...Object.fromEntries(
      Object.entries(settings)
        .filter(([, value]) => value !== undefined)
        .map(([key, value]) => [key, typeof value === 'string' ? value : JSON.stringify(value)]),
    ),
  }
}
