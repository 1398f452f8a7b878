/** @file Report of `omniquant doctor` -> text for people. Pure: prints nothing. */

import type { DoctorReport } from '../doctor/examine.ts'
import type { GpuReport } from '../doctor/gpus.ts'
import type { InstallReport } from '../doctor/install-cuda.ts'
import type { Trial } from '../engine/try-device.ts'
import { printableLine } from '../printable.ts'
import { formatBytes } from './format-numbers.ts'
import { table } from './table.ts'

const indented = (lines: readonly string[]): string => lines.map(line => `  ${printableLine(line)}`).join('\n')

/** A device that works, or what is missing with the remedies below it. */
function deviceRow({ device, seconds, failure }: Trial): string {
  const head = device.padEnd(8)
  if (!failure) return `${head}works (${seconds.toFixed(1)} s)`
  return [
    printableLine(`${head}${failure.problem}`),
    ...failure.remedy.map(step => printableLine(`          - ${step}`)),
  ].join('\n')
}

function gpuRow({ name, memoryBytes, freeMemoryBytes, driver, computeCapability, source }: GpuReport): string {
  const facts = [
    ...(memoryBytes === undefined ? [] : [formatBytes(memoryBytes)]),
    ...(freeMemoryBytes === undefined ? [] : [`${formatBytes(freeMemoryBytes)} free`]),
    ...(driver === undefined ? [] : [`driver ${driver}`]),
    ...(computeCapability === undefined ? [] : [`compute capability ${computeCapability}`]),
    `by ${source}`,
  ]
  return `${name}: ${facts.join(', ')}`
}

function installedLines({ folder, fetched, kept, downloadedBytes, files, links, undo }: InstallReport): string {
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0)
  const lines = [
    fetched.length === 0
      ? 'nothing had to be fetched'
      : `fetched ${fetched.join(', ')} (${formatBytes(downloadedBytes)})`,
    ...(kept.length === 0 ? [] : [`there already: ${kept.join(', ')}`]),
    `${files.length} files, ${formatBytes(bytes)}, in ${folder}`,
    ...links.map(link => `link ${link}`),
    ...undo.map(command => `undo: ${command}`),
  ]
  return `installed CUDA\n${indented(lines)}`
}

const NO_GPUS = 'none found (nvidia-smi, vulkaninfo, /proc/driver/nvidia, PCI)'

export function formatDoctor(report: DoctorReport): string {
  const { processor, onnxruntime, devices, gpus, disks, installed } = report
  const facts = [
    ['omniquant', report.omniquant],
    ['node', `${report.node} on ${report.system}`],
    ['onnxruntime', `${onnxruntime.version}, ${onnxruntime.folder}`],
    ['processor', `${processor.model}, ${processor.cores} cores`],
    ...(processor.features ? [['', processor.features.join(', ')]] : []),
    ...(processor.int8 === undefined ? [] : [['int8 products', processor.int8]]),
    ['memory', `${formatBytes(report.memoryBytes)}, ${formatBytes(report.freeMemoryBytes)} free`],
    ...disks.map(({ folder, freeBytes }, i) => [i === 0 ? 'disk' : '', `${formatBytes(freeBytes)} free for ${folder}`]),
    ...(gpus.length === 0 ? [NO_GPUS] : gpus.map(gpuRow)).map((gpu, i) => [i === 0 ? 'GPU' : '', gpu]),
  ]
  return [
    ...(installed ? [installedLines(installed)] : []),
    table(facts),
    devices.map(deviceRow).join('\n'),
    `--device auto takes ${printableLine(`${report.auto.name} (${report.auto.why})`)}`,
  ].join('\n\n')
}
