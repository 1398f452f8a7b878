/** @file Signature of a run: what must be equal for a run to go on where an earlier one ended. */

import { createRequire } from 'node:module'
import { arch, availableParallelism } from 'node:os'
import { basename } from 'node:path'
import { digestOf } from '../files/digest.ts'
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
 * @param options with the threads that are used.
 */
export function signatureOfRun(options: ResolvedOptions, analysis: Analysis): Signature {
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
    'learned parameters': params === undefined ? undefined : digestOf([params]),
    'matrix products': session.matmul,
  }
  const calibrated = calibrates(options) || choosing !== undefined
  return signatureOf(modelFiles(analysis.model), calibrated ? calib : undefined, settings, session.threads)
}

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string }

/**
 * Signature of files, settings and machine.
 * @param modelFiles model and data files.
 * @param calib file of text or tokens.
 * @param settings everything else that decides the result, by the words of users; entries that are undefined are left out.
 * @param threads their number decides the order of sums, and so the last bits.
 */
export function signatureOf(
  modelFiles: readonly string[],
  calib: string | undefined,
  settings: Readonly<Record<string, unknown>>,
  threads: number | undefined,
): Signature {
  return {
    omniquant: version,
    onnxruntime: `${runtimeVersion} on ${arch()}`,
    threads: String(threads ?? availableParallelism()),
    model: `${basename(modelFiles[0]!)} (content ${digestOf(modelFiles)})`,
    'calibration text': calib === undefined ? "the model's own" : `${basename(calib)} (content ${digestOf([calib])})`,
    ...Object.fromEntries(
      Object.entries(settings)
        .filter(([, value]) => value !== undefined)
        .map(([key, value]) => [key, typeof value === 'string' ? value : JSON.stringify(value)]),
    ),
  }
}
