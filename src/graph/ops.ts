/** @file Classes of ops: one table that says for each op kind what it does to the elements of its inputs. Knows no node. */

export type OpClass =
  | 'identity'
  | 'cast'
  | 'unary'
  | 'predicate'
  | 'arithmetic'
  | 'binary'
  | 'comparison'
  | 'variadic'
  | 'choice'
  | 'view'
  | 'repetition'
  | 'movement'
  | 'reduction'
  | 'normalization'

/** Op kinds (`Node.kind`) by class. Kinds that nothing asks about are left out. */
const CLASSES: Readonly<Record<OpClass, readonly string[]>> = {
  /** The value itself. */
  identity: ['Identity'],
  /** The same elements in another type. */
  cast: ['Cast', 'CastLike'],
  /** A function of each element of input 0; further inputs are parameters. */
  unary: [
    'Abs',
    'BitwiseNot',
    'Ceil',
    'Clip',
    'Cos',
    'Elu',
    'Erf',
    'Exp',
    'Floor',
    'Gelu',
    'HardSigmoid',
    'HardSwish',
    'LeakyRelu',
    'Log',
    'Mish',
    'Neg',
    'Not',
    'Reciprocal',
    'Relu',
    'Round',
    'Sigmoid',
    'Sign',
    'Sin',
    'Softplus',
    'Sqrt',
    'Swish',
    'Tanh',
    'com.microsoft.FastGelu',
    'com.microsoft.Gelu',
    'com.microsoft.QuickGelu',
  ],
  /** Is each element of input 0 of a kind? */
  predicate: ['IsInf', 'IsNaN'],
  /** The four operations, two inputs broadcast. */
  arithmetic: ['Add', 'Div', 'Mul', 'Sub'],
  /** Other functions of two inputs, element by element, broadcast. */
  binary: ['And', 'BitShift', 'BitwiseAnd', 'BitwiseOr', 'Mod', 'Or', 'PRelu', 'Pow', 'Xor'],
  /** Two inputs compared, element by element, broadcast. */
  comparison: ['Equal', 'Greater', 'GreaterOrEqual', 'Less', 'LessOrEqual'],
  /** Functions of any number of inputs, element by element, broadcast. */
  variadic: ['Max', 'Mean', 'Min', 'Sum'],
  /** Input 1 or input 2, element by element, broadcast. */
  choice: ['Where'],
  /** The same elements in the same order under another shape. */
  view: ['Flatten', 'Reshape', 'Squeeze', 'Unsqueeze'],
  /** Elements of input 0, some of them repeated along axes. */
  repetition: ['Expand', 'Tile'],
  /** Elements moved to other places, or left out. */
  movement: ['Concat', 'Gather', 'GatherElements', 'GatherND', 'Pad', 'Slice', 'Split', 'Transpose'],
  /** Axes of input 0 become one number each; the axes are input 1. */
  reduction: [
    'ReduceL1',
    'ReduceL2',
    'ReduceLogSumExp',
    'ReduceMax',
    'ReduceMean',
    'ReduceMin',
    'ReduceProd',
    'ReduceSum',
    'ReduceSumSquare',
  ],
  /** Elements along `axis` brought to a common size or sum. */
  normalization: ['LayerNormalization', 'LogSoftmax', 'RMSNormalization', 'SimplifiedLayerNormalization', 'Softmax'],
}

const CLASS_OF: ReadonlyMap<string, OpClass> = new Map(
  Object.entries(CLASSES).flatMap(([opClass, kinds]) => kinds.map(kind => [kind, opClass as OpClass] as const)),
)

/** Class of an op kind; undefined for one that is not in the table. */
export const classOf = (kind: string): OpClass | undefined => CLASS_OF.get(kind)

/** Classes whose outputs have one element for each element of the broadcast inputs, computed from those at the same place. */
export const ELEMENTWISE: readonly OpClass[] = [
  'identity',
  'cast',
  'unary',
  'predicate',
  'arithmetic',
  'binary',
  'comparison',
  'variadic',
  'choice',
]

/** The op computes every element from the elements at the same place of its inputs. */
export function isElementwise(kind: string): boolean {
  const opClass = classOf(kind)
  return opClass !== undefined && ELEMENTWISE.includes(opClass)
}

/** The op passes on the elements of input 0 in their order; their type and the shape may change. */
export function keepsElements(kind: string): boolean {
  const opClass = classOf(kind)
  return opClass === 'identity' || opClass === 'cast' || opClass === 'view'
}

/** One row for every op kind of some classes, for tables by op kind. */
export function rowsFor<Row>(classes: readonly OpClass[], row: Row): Record<string, Row> {
  return Object.fromEntries(classes.flatMap(opClass => CLASSES[opClass]).map(kind => [kind, row]))
}
