/** @file Graphics cards of this machine, as far as its drivers and the system tell. onnxruntime names none. */

import { execFile } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'

/** A graphics card. */
export interface GpuReport {
  readonly name: string
  /** Program or file that told. */
  readonly source: string
  readonly memoryBytes?: number
  readonly freeMemoryBytes?: number
  readonly driver?: string
  /** Compute capability of an NVIDIA GPU, such as "9.0". */
  readonly computeCapability?: string
}

const LIMIT_MS = 10_000

const MEBIBYTE = 2 ** 20

/** Output of a program; empty where it is not installed or fails. */
async function outputOf(program: string, args: readonly string[]): Promise<string> {
  try {
    return (await promisify(execFile)(program, args, { timeout: LIMIT_MS })).stdout
  } catch {
    return ''
  }
}

/** Names in a folder, and the text of a file; nothing where they cannot be read. */
function quietly<T>(read: () => T, otherwise: T): T {
  try {
    return read()
  } catch {
    return otherwise
  }
}
const namesIn = (folder: string): string[] => quietly(() => readdirSync(folder), [])
const textOf = (file: string): string => quietly(() => readFileSync(file, 'utf8').trim(), '')

const QUERY = '--query-gpu=name,memory.total,memory.free,driver_version,compute_cap'

/** Lines of nvidia-smi: "NVIDIA H200, 143771, 143000, 580.159, 9.0", memory in MiB. */
export function readNvidiaSmi(output: string): GpuReport[] {
  return output
    .split('\n')
    .map(line => line.split(',').map(field => field.trim()))
    .filter(fields => fields.length === 5)
    .map(([name, total, free, driver, computeCapability]) => ({
      name: name!,
      source: 'nvidia-smi',
      ...(Number(total) > 0 && { memoryBytes: Number(total) * MEBIBYTE }),
      ...(Number(free) > 0 && { freeMemoryBytes: Number(free) * MEBIBYTE }),
      driver: driver!,
      computeCapability: computeCapability!,
    }))
}

/** The kernel module's own files, where nvidia-smi is not installed. */
function nvidiaModule(root: string): GpuReport[] {
  const driver = /Kernel Module\s+(?:for \S+\s+)?([\d.]+)/.exec(textOf(join(root, 'version')))?.[1]
  return namesIn(join(root, 'gpus')).map(bus => ({
    name: /^Model:\s*(.*)$/m.exec(textOf(join(root, 'gpus', bus, 'information')))?.[1] ?? `NVIDIA GPU at ${bus}`,
    source: root,
    ...(driver !== undefined && { driver }),
  }))
}

/** Devices of `vulkaninfo --summary`, software among them. */
export function readVulkanInfo(output: string): GpuReport[] {
  const fields = (name: string): string[] =>
    [...output.matchAll(new RegExp(`^\\s*${name}\\s*=\\s*(.*?)\\s*$`, 'gm'))].map(match => match[1]!)
  const [types, drivers] = [fields('deviceType'), fields('driverInfo')]
  return fields('deviceName').map((name, i) => ({
    name: types[i] === 'PHYSICAL_DEVICE_TYPE_CPU' ? `${name} (software)` : name,
    source: 'vulkaninfo',
    ...(drivers[i] !== undefined && { driver: drivers[i] }),
  }))
}

/** Vendors of graphics cards, by their PCI number. */
const VENDORS: Readonly<Record<string, string>> = { '0x10de': 'NVIDIA', '0x1002': 'AMD', '0x8086': 'Intel' }

/** Cards on the PCI bus (class 03, display) of the vendors above, also those without a driver. */
function pciCards(root: string): GpuReport[] {
  return namesIn(root)
    .filter(bus => textOf(join(root, bus, 'class')).startsWith('0x03'))
    .flatMap(bus => {
      const vendor = VENDORS[textOf(join(root, bus, 'vendor'))]
      const device = textOf(join(root, bus, 'device'))
      return vendor === undefined ? [] : [{ name: `${vendor} card ${device} at ${bus}`, source: root }]
    })
}

/** Cards by the first source that knows any, and those that Vulkan shows besides. */
export async function findGpus(): Promise<GpuReport[]> {
  const vulkan = readVulkanInfo(await outputOf('vulkaninfo', ['--summary']))
  const smi = readNvidiaSmi(await outputOf('nvidia-smi', [QUERY, '--format=csv,noheader,nounits']))
  const nvidia = smi.length > 0 ? smi : nvidiaModule('/proc/driver/nvidia')
  return nvidia.length + vulkan.length > 0 ? [...nvidia, ...vulkan] : pciCards('/sys/bus/pci/devices')
}
