/**
 * @file Words of onnxruntime about a device that does not work -> what is missing and what to do. A row for each kind of message; those
 * of onnxruntime 1.30 stand in test/kernels/device-errors.test.ts.
 */

import { stripVTControlCharacters } from 'node:util'
import { option } from '../option-mark.ts'
import type { Device } from './device.ts'

/** Reason why a device cannot be used, for people. */
export interface DeviceProblem {
  readonly problem: string
  /** Name of the file that is not there, where it is one. */
  readonly missing?: string
  /** Sentences and commands that mend it, in the order in which they should be tried. They may hold marks of options. */
  readonly remedy: readonly string[]
}

type Match = RegExpExecArray

interface Row {
  /** Beginning of the names of the devices that it is about; all without it. */
  readonly device?: 'cuda' | 'webgpu'
  readonly pattern: RegExp
  readonly problem: string | ((match: Match) => string)
  /** Text for the file that is missing, which is the first group of the pattern. */
  readonly missing?: string
  readonly remedy: readonly string[]
}

const INSTALL =
  '`omniquant doctor --install-cuda` fetches it from PyPI (Linux x64; with CUDA and cuDNN 1.1 GB to download).'
const NAME_FOLDER =
  'Where CUDA 13 and cuDNN 9 are installed already, OMNIQUANT_CUDA_LIBS names their folders: `export OMNIQUANT_CUDA_LIBS=/path/to/lib:/path/to/cudnn/lib`.'
const CONTAINER =
  'In a container: start it with `--gpus all` (docker, podman), which needs nvidia-container-toolkit on the host.'
const DRIVER =
  "Install NVIDIA's driver 580 or newer, for example `sudo apt install nvidia-driver-580` on Ubuntu, and start the machine again."
const CUDNN =
  'cuDNN 9 for CUDA 13 comes with `omniquant doctor --install-cuda`, or with `pip install --target DIR nvidia-cudnn-cu13==9.20.*` and `export OMNIQUANT_CUDA_LIBS=DIR`.'
const SEES = '`nvidia-smi` shows the GPUs that this system sees; CUDA_VISIBLE_DEVICES may hide them.'
/** Last resort for a device that nothing mends. */
export const USE_CPU: string = `Programs run on the CPU without it (${option('device', 'cpu')}).`
const AGAIN = [
  'Install onnxruntime-node again: `npm rebuild onnxruntime-node`, or remove node_modules and run `npm install`.',
  'It has libraries for Linux with glibc (not Alpine) on x64 and arm64, macOS on arm64, and Windows on x64 and arm64.',
]
const VULKAN =
  "Install Vulkan's loader: `sudo apt install libvulkan1` (Debian, Ubuntu) or `sudo dnf install vulkan-loader` (Fedora)."
const VULKAN_DRIVER =
  "Install a Vulkan driver: the GPU vendor's, or `sudo apt install mesa-vulkan-drivers` (mesa 25 or newer if it has to be software)."

const ROWS: readonly Row[] = [
  {
    device: 'cuda',
    pattern: /(libonnxruntime_providers_\w+\.so): cannot open shared object file/,
    problem: 'onnxruntime-node was installed without its CUDA provider',
    missing: "is not beside onnxruntime's library",
    remedy: [INSTALL],
  },
  {
    device: 'cuda',
    pattern: /(libcuda\.so[.\d]*): cannot open shared object file/,
    problem: 'there is no NVIDIA driver',
    missing: 'is part of it',
    remedy: [CONTAINER, DRIVER],
  },
  {
    device: 'cuda',
    pattern:
      /(libcudnn\w*\.so[.\d]*): cannot open shared object file|cuDNN is unavailable|dlopen failed for (libcudnn\w*\.so)/,
    problem: 'cuDNN is not on the library path (libcudnn.so.9)',
    remedy: [CUDNN],
  },
  {
    device: 'cuda',
    pattern: /(lib[\w+-]+\.so[.\d]*): cannot open shared object file/,
    problem: 'a library of CUDA 13 is not on the library path',
    missing: 'is not found',
    remedy: [INSTALL, NAME_FOLDER],
  },
  {
    device: 'cuda',
    pattern: /([\w.+-]+\.so[.\d]*): (?:file too short|invalid ELF header)/,
    problem: match => `${match[1]} is damaged`,
    remedy: ['Remove it and run `omniquant doctor --install-cuda` again.'],
  },
  {
    device: 'cuda',
    pattern: /([\w.+-]+\.so[.\d]*): (undefined symbol: \S+|version `[^']*' not found)/,
    problem: match => `${match[1]} does not fit the other libraries (${match[2]})`,
    remedy: [
      "The provider must be of the same version as onnxruntime-node, and CUDA's libraries of version 13: `omniquant doctor --install-cuda` fetches both.",
    ],
  },
  {
    device: 'cuda',
    pattern: /CUDA failure 35\b|driver version is insufficient/,
    problem: "NVIDIA's driver is too old for CUDA 13",
    remedy: [DRIVER],
  },
  {
    device: 'cuda',
    pattern: /CUDA failure 100\b|no CUDA-capable device/,
    problem: "NVIDIA's driver finds no GPU",
    remedy: [SEES, CONTAINER],
  },
  {
    device: 'cuda',
    pattern: /CUDA failure 101\b|invalid device ordinal/,
    problem: 'there is no GPU of this number',
    remedy: [SEES],
  },
  {
    device: 'cuda',
    pattern: /CUDA failure 209\b|no kernel image is available/,
    problem: "onnxruntime's CUDA provider holds no code for this GPU",
    remedy: ["PyPI's provider is built for compute capability 7.5, 8.0, 8.6, 8.9, 9.0 and 12.0.", USE_CPU],
  },
  {
    device: 'cuda',
    pattern: /CUDA failure 2\b|out of memory|Failed to allocate memory/,
    problem: 'the GPU has too little free memory',
    remedy: ['`nvidia-smi` shows what else uses it.', 'A shorter sequence and fewer samples need less.'],
  },
  {
    device: 'cuda',
    pattern: /(?:CUDA|CUBLAS|CUDNN)\w* failure (\d+): ([^;\n]*)/,
    problem: match => `CUDA reports error ${match[1]}: ${match[2]!.trim()}`,
    remedy: [SEES, USE_CPU],
  },
  {
    device: 'webgpu',
    pattern: /Couldn't load Vulkan: (libvulkan\.so[.\d]*): cannot open shared object file/,
    problem: 'there is no Vulkan loader',
    missing: 'is not found',
    remedy: [VULKAN, VULKAN_DRIVER],
  },
  {
    device: 'webgpu',
    pattern: /No supported adapters|Found no drivers|VK_ERROR_INCOMPATIBLE_DRIVER/,
    problem: 'no driver offers a GPU to WebGPU',
    remedy: [VULKAN_DRIVER, '`vulkaninfo --summary` shows the GPUs that Vulkan sees; VK_ICD_FILENAMES may hide them.'],
  },
  {
    device: 'webgpu',
    pattern: /Too many storage buffers/,
    problem: 'a program needs more buffers than this GPU binds at once',
    remedy: ['A shorter sequence makes smaller buffers.', USE_CPU],
  },
  {
    device: 'webgpu',
    pattern: /[Dd]evice (?:was |is )?lost|DeviceLost/,
    problem: 'the GPU was lost, most often because a program took too long or memory ran out',
    remedy: [USE_CPU],
  },
  {
    pattern: /wrong numbers: [^\n]*/,
    problem: match => `a small program ran there and gave ${match[0]}`,
    remedy: ['The driver or one of its libraries is broken, or none of a real GPU.', USE_CPU],
  },
]

const isAbout = ({ device }: Row, name: Device): boolean => device === undefined || name.startsWith(device)

/** A row that fits; undefined for messages that no row knows. */
export function knownProblem(device: Device, said: string): DeviceProblem | undefined {
  for (const row of ROWS) {
    const match = isAbout(row, device) ? row.pattern.exec(said) : null
    if (!match) continue
    const problem = typeof row.problem === 'string' ? row.problem : row.problem(match)
    if (row.missing === undefined) return { problem, remedy: row.remedy }
    return { problem: `${problem}: ${match[1]} ${row.missing}`, missing: match[1]!, remedy: row.remedy }
  }
  return undefined
}

/** First line of onnxruntime's words, without colours. */
const firstLine = (said: string): string => stripVTControlCharacters(said).trim().split('\n')[0]!

/**
 * Words of onnxruntime and its libraries as a problem that a user can mend.
 * @param said message of the error and everything on stderr.
 */
export function explainDevice(device: Device, said: string): DeviceProblem {
  const known = knownProblem(device, said)
  if (known) return known
  return {
    problem: firstLine(said),
    remedy: device === 'cpu' ? AGAIN : ['docs/gpu.md has what each device needs.', USE_CPU],
  }
}
