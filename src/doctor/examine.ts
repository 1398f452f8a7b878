/** @file Examination of a machine: what omniquant can run on here, and what is missing for the rest. */

import { createRequire } from 'node:module'
import { arch, platform } from 'node:os'
import { chooseDevice, type ChosenDevice } from '../engine/choose-device.ts'
import { engineEnvironment } from '../engine/environment.ts'
import { type Trial, tryDevice } from '../engine/try-device.ts'
import type { Device } from '../kernels/device.ts'
import { packagedVersion, runtimeFolder } from '../kernels/runtime-folder.ts'
import { findGpus, type GpuReport } from './gpus.ts'
import { examineMachine, type MachineReport } from './machine.ts'
import type { InstallReport } from './install-cuda.ts'

/** Answer of `omniquant doctor`. Bytes, seconds. */
export interface DoctorReport extends MachineReport {
  readonly omniquant: string
  readonly node: string
  readonly system: string
  readonly onnxruntime: { readonly version: string; readonly folder: string }
  readonly devices: readonly Trial[]
  /** Device that "auto" takes. */
  readonly auto: ChosenDevice
  readonly gpus: readonly GpuReport[]
  /** Work of --install-cuda, which came first. */
  readonly installed?: InstallReport
}

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string }

/** Devices that are tried, one of each kind. */
const DEVICES: readonly Device[] = ['cpu', 'cuda:0', 'webgpu']

/** Connections of an examination to its caller. */
interface Examining {
  readonly onTry?: (device: Device) => void
  readonly signal?: AbortSignal | undefined
}

/** Tries everything, one after the other. Nothing is changed. @throws the AbortSignal's reason when aborted. */
export async function examine({ onTry = () => {}, signal }: Examining = {}): Promise<DoctorReport> {
  const devices: Trial[] = []
  for (const device of DEVICES) {
    onTry(device)
    devices.push(await tryDevice(device, { env: engineEnvironment(device), signal }))
  }
  const tried = (device: Device) => Promise.resolve(devices.find(trial => trial.device === device)!)
  return {
    omniquant: version,
    node: process.versions.node,
    system: `${platform()} ${arch()}`,
    onnxruntime: { version: packagedVersion(), folder: runtimeFolder() },
    devices,
    auto: await chooseDevice('auto', tried),
    gpus: await findGpus(),
    ...examineMachine(),
  }
}
