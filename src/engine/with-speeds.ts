/** @file An evaluation and the speeds that follow it: each model is timed in a process of its own, so that its memory can be told. */

import type { EvaluateReport, Measured } from '../quant/evaluate.ts'
import type { EvaluateOptions, SpeedEvent } from '../quant/terms/read-options.ts'
import type { Task, Tasks } from './messages.ts'

/**
 * The report of an evaluation with the speed of each model.
 * @param engine "inline": the memory of the process is not that of one model, and is left out.
 * @param work runs a task. @throws what it throws.
 */
export async function withSpeeds(
  options: EvaluateOptions,
  engine: 'process' | 'inline',
  onProgress: (event: SpeedEvent) => void,
  work: (task: Task) => Promise<unknown>,
): Promise<EvaluateReport> {
  const report = (await work({ name: 'evaluate', options })) as EvaluateReport
  const { threads, device, qdqAccuracyLevel } = options
  const timed = async <T extends Measured>(measured: T): Promise<T> => {
    const { model } = measured
    onProgress({ type: 'timing', model })
    const task: Task = { name: 'speed', options: { model, threads, device, qdqAccuracyLevel, seqLen: report.seqLen } }
    const { peakMemoryBytes, ...speed } = (await work(task)) as Tasks['speed']['report']
    return { ...measured, speed: { ...speed, ...(engine === 'process' && { peakMemoryBytes }) } }
  }
  const { others, against, ...first } = report
  const timedFirst = await timed(first)
  const timedOthers: Measured[] = []
  for (const other of others ?? []) timedOthers.push(await timed(other))
  return {
    ...timedFirst,
    ...(others && { others: timedOthers }),
    ...(against && { against: await timed(against) }),
  }
}
