/** @file The public interface of the package: quantize, evaluate, generate, inspect, the scheme parsers, the error, and their types. */

import { faceFor, type Face } from './engine/engine.ts'
import type { EvaluateResult, QuantizeResult } from './engine/messages.ts'
import { keyName } from './option-mark.ts'
import type { About } from './page/about.ts'

const face: Face = faceFor(keyName)

/** Quantizes a model file into another one: `await quantize({ model: 'model.onnx', scheme: 'w4a16' })`. See `Face`. */
export const quantize: Face['quantize'] = face.quantize

/** Measures perplexity, size and speed of a model: `await evaluate({ model: 'model.onnx', text: 'text.txt' })`. See `Face`. */
export const evaluate: Face['evaluate'] = face.evaluate

/** Continues a prompt: `await generate({ model: 'model.onnx', prompt: 'Once upon a time' })`. See `Face`. */
export const generate: Face['generate'] = face.generate

/** Describes a model file: `await inspect({ model: 'model.onnx' })`. See `Face`. */
export const inspect: Face['inspect'] = face.inspect

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
} from './quant/terms/sensitivity.ts'
export { type StoredBits, type TargetName } from './quant/terms/targets.ts'
