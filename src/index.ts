/** @file The public interface of the package: three functions, the scheme parser, the error, and their types. */

export { type ErrorCode, QuantError } from './errors.ts'
export type { Device, SessionOptions } from './kernels/session.ts'
export { type EvaluateOptions, type EvaluateReport, evaluateModel, type Measured } from './quant/evaluate.ts'
export {
  type InspectedBlock,
  type InspectedLinear,
  type InspectedOuter,
  type InspectedPort,
  type InspectedType,
  inspectModel,
  type InspectOptions,
  type InspectReport,
} from './quant/inspect.ts'
export { quantizeModel, type QuantizeOptions } from './quant/quantize-model.ts'
export type { BlockReport, OnEvent, OuterReport, QuantizeEvent, QuantizeReport, SkippedReport } from './quant/report.ts'
export {
  parseScheme,
  parseWeightOverride,
  type QuantScheme,
  type WeightOverride,
  type WeightScheme,
} from './quant/scheme.ts'
export type { UnusedWeight } from './quant/unused-weights.ts'
export type { PatternOverride, WeightRules } from './quant/weight-rules.ts'
