/** @file Origin of a quantized file, in its metadata: version, scheme, calibration, seed, target. Holds no dates and no folders: the same input gives the same bytes. */

import { basename } from 'node:path'
import type { Calibration } from '../calibration/calibrate.ts'
import type { Json } from '../decoder/model-folder.ts'
import { digestOfBytes } from '../files/digest.ts'
import type { Model } from '../graph/ir.ts'
import { version } from './signature.ts'
import type { ResolvedOptions } from './terms/options.ts'
import type { CalibrationReport } from './terms/report.ts'
import { schemeName } from './terms/scheme.ts'

/** Beginning of all keys. */
const PREFIX = 'omniquant.'

/** Origin of a quantized file, by name: "scheme" -> "w4a16g32". */
export type Provenance = Readonly<Record<string, string>>

/** Key of the digest of what the run was to make. */
const RUN = 'run'

const bitsText = (bits: number | undefined): string => (bits === undefined ? 'float' : String(bits))

/** Tokens that were learned from, for the report. */
export function calibrationReport(
  { calib }: Pick<ResolvedOptions, 'calib'>,
  { tokens, samples, seqLen }: Calibration,
): CalibrationReport {
  const digest = digestOfBytes(new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength))
  return { ...(calib !== undefined && { file: basename(calib) }), samples, seqLen, digest }
}

/** @param run digest of what the run is to make. @param calibration absent where nothing was calibrated. */
export function provenanceOf(
  { scheme, target, seed, rounding, lmHead, embedding }: ResolvedOptions,
  run: string,
  calibration: CalibrationReport | undefined,
): Provenance {
  return {
    version,
    scheme: schemeName(scheme),
    target,
    lm_head: bitsText(lmHead),
    embedding: bitsText(embedding),
    rounding,
    seed: String(seed),
    calibration: calibration ? (calibration.file ?? "the model's own text") : 'none',
    ...(calibration && {
      calibration_tokens: `${calibration.samples} x ${calibration.seqLen}`,
      calibration_digest: calibration.digest,
    }),
    [RUN]: run,
  }
}

export function writeProvenance(model: Model, provenance: Provenance): void {
  for (const [name, value] of Object.entries(provenance)) model.metadata.set(PREFIX + name, value)
}

/** Origin in the metadata of a file; undefined for one that omniquant did not make. */
export function readProvenance({ metadata }: Pick<Model, 'metadata'>): Provenance | undefined {
  const entries = [...metadata].flatMap(([key, value]) =>
    key.startsWith(PREFIX) ? [[key.slice(PREFIX.length), value] as const] : [],
  )
  const found = Object.fromEntries(entries)
  return found['version'] === undefined ? undefined : found
}

/** Digest of what the run that made a file was to make. */
export const runOf = (provenance: Provenance | undefined): string | undefined => provenance?.[RUN]

/** The section `quantization_config` of config.json. @param file the model file, seen from there: other files may lie beside it. */
export function quantizationConfig(
  { scheme, target, lmHead, embedding }: ResolvedOptions,
  calibration: CalibrationReport | undefined,
  file: string,
): Json {
  const { weights, activations } = scheme
  return {
    quant_method: 'omniquant',
    version,
    file,
    scheme: schemeName(scheme),
    bits: weights.bits,
    // As GPTQ and AWQ write one scale per output.
    group_size: weights.group ?? -1,
    sym: weights.symmetric,
    activation_bits: activations?.bits ?? 16,
    lm_head_bits: lmHead ?? null,
    embedding_bits: embedding ?? null,
    target,
    calibration_digest: calibration?.digest ?? null,
  }
}
