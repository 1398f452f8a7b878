/** @file The public interface of the package: quantize, evaluate, generate, inspect, the scheme parsers, the error, and their types. */

import { faceFor, type Face, type RunOptions } from './engine/engine.ts'
import type { EvaluateResult, GenerateResult, QuantizeRequest, QuantizeResult } from './engine/messages.ts'
import { keyName } from './option-mark.ts'
import type { About } from './page/about.ts'
import type { InspectReport } from './quant/inspected.ts'
import type { GenerateOptions } from './quant/terms/generate-options.ts'
import type { EvaluateOptions, InspectOptions } from './quant/terms/read-options.ts'

const face: Face = faceFor(keyName)

/**
 * Quantizes a model file into another one, block by block. A run that ended early goes on when it is called again with the same options.
 * @example await quantize({ model: 'model.onnx', scheme: 'w4a16' })
 * @param options of the method, and the paths of model and output. Only `model` and a scheme, `bits` or a target are needed.
 * @param run connections to the caller: progress, an AbortSignal, the place of the work.
 * @returns paths of what was written, sizes, and a report on each block.
 * @throws QuantError: E_USAGE and E_SCHEME with the key of the option, E_INTERRUPTED when aborted, and those of the model, the text and the disk.
 */
export function quantize(options: QuantizeRequest, run?: RunOptions): Promise<QuantizeResult> {
  return face.quantize(options, run)
}

/**
 * Measures perplexity, size, speed and memory of models, float or quantized, and with `against` their distance from a reference.
 * @example await evaluate({ model: 'model.onnx', text: 'text.txt' })
 * @param options paths of models and text, and how much of it to read.
 * @param run connections to the caller: progress, an AbortSignal, the place of the work.
 * @returns the figures of `model`, of `others` and of the reference; docs/evaluate.md defines each.
 * @throws QuantError: E_USAGE with the key of the option, E_INTERRUPTED when aborted, and those of the models and the text.
 */
export function evaluate(options: EvaluateOptions, run?: RunOptions): Promise<EvaluateResult> {
  return face.evaluate(options, run)
}

/**
 * Continues a prompt, with one model or with two to compare. Text comes in events of type "text" as it is written.
 * @example await generate({ model: 'model.onnx', prompt: 'Once upon a time' })
 * @param options model, prompt, and how tokens are chosen.
 * @param run connections to the caller: progress, an AbortSignal, the place of the work.
 * @returns the text that was written, its tokens and its speed.
 * @throws QuantError: E_USAGE with the key of the option, E_INTERRUPTED when aborted, and those of the model and its tokenizer.
 */
export function generate(options: GenerateOptions, run?: RunOptions): Promise<GenerateResult> {
  return face.generate(options, run)
}

/**
 * Describes a model file: its blocks, the linears that would be quantized, sizes. A file that cannot be quantized has a `problem`.
 * @example await inspect({ model: 'model.onnx' })
 * @param options model, and the target whose kernels are to be named.
 * @param run connections to the caller: an AbortSignal, the place of the work.
 * @throws QuantError: E_USAGE with the key of the option, E_INTERRUPTED when aborted, and those of files that cannot be read.
 */
export function inspect(options: InspectOptions, run?: RunOptions): Promise<InspectReport> {
  return face.inspect(options, run)
}

/**
 * The text of an HTML page about a report of `quantize` or `evaluate`: `await reportPage(report)`. It has no script and asks for no other
 * file. The same report gives the same text.
 */
export const reportPage = async (report: QuantizeResult | EvaluateResult, about: About = {}): Promise<string> =>
  // The library of the plots is loaded by those who want a page.
  (await import('./page/report-page.ts')).reportPage(report, about)

export { type About } from './page/about.ts'
export { type Call, type EngineKind, type Face, type RunOptions } from './engine/engine.ts'
export { type ChosenDevice } from './engine/choose-device.ts'
export {
  type DeviceEvent,
  type EvaluateResult,
  type GenerateResult,
  type ProgressEvent,
  type QuantizeRequest,
  type QuantizeResult,
  type Ran,
  type TaskName,
  type Tasks,
} from './engine/messages.ts'
export { type ErrorCode, type ErrorWords, QuantError } from './errors.ts'
export { type OptimizerName } from './autodiff/optimizers.ts'
export { type Divergence } from './calibration/measures.ts'
export { type Perplexity } from './calibration/perplexity.ts'
export { type Speed } from './calibration/speed.ts'
export { type StateType } from './calibration/activation-store.ts'
export { type SetPlace } from './files/file-set.ts'
export { type WorkPlace } from './files/work-folder.ts'
export { type DType } from './graph/dtype.ts'
export { type OpsetImport } from './graph/ir.ts'
export { type RangeChoice } from './kernels/choose-range.ts'
export { type Device, type DeviceChoice } from './kernels/device.ts'
export { type MatMulPrecision } from './kernels/matmul-precision.ts'
export { type RangeQuantizer } from './kernels/static-range.ts'
export { type ActivationQuantizer } from './kernels/tokens.ts'
export { type OptionName } from './option-mark.ts'
export { type Compared, type EvaluateReport, type Measured, type MeasuredSpeed } from './quant/evaluate.ts'
export { type UnusedWeight } from './quant/find/unused-weights.ts'
export {
  type InspectedBlock,
  type InspectedKernel,
  type InspectedKernels,
  type InspectedLinear,
  type InspectedMapping,
  type InspectedEmbedding,
  type InspectedPort,
  type InspectedType,
  type InspectReport,
  type InspectedQuantized,
  type QuantizedGroup,
  type DryRun,
} from './quant/inspected.ts'
export {
  type LinearError,
  type LinearReport,
  type LossCurve,
  type ScalesReport,
  type Spread,
} from './quant/terms/learning-report.ts'
export { type KernelSpeed, type ProductOp, type StoredProduct } from './quant/terms/kernel.ts'
export {
  type GenerateOptions,
  type GenerateReport,
  type LoadingEvent,
  type Parting,
  type Stop,
  type TextEvent,
  type Written,
} from './quant/terms/generate-options.ts'
export { type Format, type OutputLayout, type QuantizeOptions } from './quant/terms/options.ts'
export { type PresetName, type Schedule } from './quant/terms/presets.ts'
export {
  type EvaluateEvent,
  type EvaluateOptions,
  type InspectOptions,
  type SpeedEvent,
  type SpeedOptions,
} from './quant/terms/read-options.ts'
export {
  type ActivationReport,
  type BlockReport,
  type EmbeddingReport,
  type FewTokens,
  type OuterLearning,
  type QuantizeEvent,
  type QuantizeReport,
  type RuntimeNeed,
  type SkippedReport,
  type Traces,
  type RunPlan,
  type StorageReport,
  type CalibrationReport,
  type ErrorSummary,
  type CheckReport,
} from './quant/terms/report.ts'
export { type Rounding } from './quant/terms/roundings.ts'
export {
  type EmbeddingBits,
  type EmbeddingChoices,
  parseScheme,
  parseWeightOverride,
  type PatternOverride,
  type QuantScheme,
  type SchemeOverrides,
  type SiteQuantizer,
  type UsualWeights,
  type WeightOverride,
  type WeightRules,
  type WeightScheme,
} from './quant/terms/scheme.ts'
export {
  type Candidate,
  type ChoiceReport,
  type LinearSensitivity,
  type Sensitivities,
  type ChoiceLimit,
} from './quant/terms/sensitivity.ts'
export { type StoredBits, type TargetName } from './quant/terms/targets.ts'
