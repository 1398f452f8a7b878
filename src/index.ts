/** @file The public interface of the package: three functions, the scheme parser, the error, and their types. */

export { type ErrorCode, QuantError } from './errors.ts'
export { type Device, type SessionOptions } from './kernels/session.ts'
export { type EvaluateOptions, type EvaluateReport, evaluateModel, type Measured } from './quant/evaluate.ts'
export {
  type InspectedBlock,
  type InspectedLinear,
  type InspectedEmbedding,
  type InspectedPort,
  type InspectedType,
  type InspectReport,
} from './quant/inspected.ts'
export { inspectModel, type InspectOptions } from './quant/inspect.ts'
export { quantizeModel } from './quant/quantize-model.ts'
export { type QuantizeOptions } from './quant/terms/options.ts'
export {
  type BlockReport,
  type OnEvent,
  type EmbeddingReport,
  type QuantizeEvent,
  type QuantizeReport,
  type SkippedReport,
} from './quant/terms/report.ts'
export {
  parseScheme,
  parseWeightOverride,
  type QuantScheme,
  type WeightOverride,
  type WeightScheme,
  type PatternOverride,
  type WeightRules,
} from './quant/terms/scheme.ts'
export { type UnusedWeight } from './quant/find/unused-weights.ts'
