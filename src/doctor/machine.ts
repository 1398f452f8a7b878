/** @file Processor, memory and disks of this machine, as far as the system tells. */

import { existsSync, readFileSync, statfsSync } from 'node:fs'
import { availableParallelism, cpus, freemem, tmpdir, totalmem } from 'node:os'

/** The processor. */
export interface ProcessorReport {
  readonly model: string
  readonly cores: number
  /** Instruction sets that matter for speed; absent where the system does not list them. */
  readonly features?: readonly string[]
  /** Meaning of them for products of 8-bit integers. */
  readonly int8?: string
}

/** Free space for a folder. */
export interface DiskReport {
  readonly folder: string
  readonly freeBytes: number
}

export interface MachineReport {
  readonly processor: ProcessorReport
  readonly memoryBytes: number
  readonly freeMemoryBytes: number
  readonly disks: readonly DiskReport[]
}

/** Name of an instruction set -> flags of /proc/cpuinfo, one of which is enough. */
const FEATURES: Readonly<Record<string, readonly string[]>> = {
  AVX2: ['avx2'],
  AVX512: ['avx512f'],
  'AVX512-VNNI': ['avx512_vnni'],
  'AVX-VNNI': ['avx_vnni'],
  'AMX-INT8': ['amx_int8'],
  'AVX512-BF16': ['avx512_bf16'],
  NEON: ['asimd'],
  'dot product': ['asimddp'],
  I8MM: ['i8mm'],
  SVE: ['sve'],
}

/** Instruction sets -> products of 8-bit integers: the first row with all of them holds. Source: docs/activations.md, "Old CPUs". */
const INT8: readonly (readonly [needs: readonly string[], words: string])[] = [
  [['AMX-INT8'], 'fast (AMX) and exact'],
  [['AVX512-VNNI'], 'fast (VNNI) and exact'],
  [['AVX-VNNI'], 'fast (VNNI) and exact'],
  [['AVX2'], 'no VNNI: slower, and 8-bit weights with 8-bit activations may overflow (docs/activations.md)'],
  [['I8MM'], 'fast (I8MM) and exact'],
  [['dot product'], 'fast (dot product) and exact'],
]

/** Instruction sets in the text of /proc/cpuinfo. */
export function featuresIn(cpuinfo: string): string[] {
  const flags = new Set(/^(?:flags|Features)\s*:\s*(.*)$/m.exec(cpuinfo)?.[1]?.split(/\s+/))
  return Object.entries(FEATURES)
    .filter(([, names]) => names.some(name => flags.has(name)))
    .map(([feature]) => feature)
}

/** Meaning of instruction sets for products of 8-bit integers; undefined where none of them is known for it. */
export const int8Words = (features: readonly string[]): string | undefined =>
  INT8.find(([needs]) => needs.every(feature => features.includes(feature)))?.[1]

function processor(): ProcessorReport {
  const model = cpus()[0]?.model.trim() ?? 'unknown'
  const cores = availableParallelism()
  if (!existsSync('/proc/cpuinfo')) return { model, cores }
  const features = featuresIn(readFileSync('/proc/cpuinfo', 'utf8'))
  const int8 = int8Words(features)
  return { model, cores, features, ...(int8 !== undefined && { int8 }) }
}

/** Memory that this process may take: containers have less than the machine. */
function memoryBytes(): number {
  const limit = process.constrainedMemory()
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem()
}

/** Free space in the folder for temporary files and in the current one. */
function disks(): DiskReport[] {
  return [...new Set([tmpdir(), process.cwd()])].map(folder => {
    const { bavail, bsize } = statfsSync(folder)
    return { folder, freeBytes: bavail * bsize }
  })
}

export const examineMachine = (): MachineReport => ({
  processor: processor(),
  memoryBytes: memoryBytes(),
  freeMemoryBytes: freemem(),
  disks: disks(),
})
