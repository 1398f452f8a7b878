/** @file Models that are not ONNX files on this disk: checkpoints, GGUF files, names of the Hub. Each is refused with the way to export it. */

import { basename } from 'node:path'
import { QuantError } from '../../errors.ts'

const CHECKPOINT = /\.(safetensors|bin|pt|pth|ckpt|gguf)$/i

const ADDRESS = /^\w+:\/\//

/** "meta-llama/Llama-3.2-1B" */
const HUB_ID = /^\w[\w.-]*\/\w[\w.-]*$/

/** True for names of files with weights that are not ONNX. */
export const isCheckpoint = (name: string): boolean => CHECKPOINT.test(name)

/** Words about making an ONNX file of a checkpoint. @param checkpoint folder, or name on the Hub. */
export const exportHint = (checkpoint: string): string =>
  `Export it to ONNX first: \`pip install "optimum[onnxruntime]"\`, then ` +
  `\`optimum-cli export onnx --model ${checkpoint} --task text-generation-with-past FOLDER\`, and give that folder.`

/** @throws E_NOT_ONNX for a file with another kind of weights. */
export function refuseCheckpoint(path: string): void {
  if (!isCheckpoint(path)) return
  const gguf = /\.gguf$/i.test(path)
  throw new QuantError(
    'E_NOT_ONNX',
    `${basename(path)} is a ${gguf ? 'model of llama.cpp' : 'checkpoint'}, not an ONNX model`,
    gguf ? `Take the checkpoint that it was made from. ${exportHint('CHECKPOINT')}` : exportHint('CHECKPOINT'),
  )
}

/** @param given as it was typed; nothing has that name here. @throws E_NOT_ONNX where it is a name of something else than a missing ONNX file. */
export function refuseNameElsewhere(given: string): void {
  if (/\.onnx$/.test(given)) return
  if (ADDRESS.test(given))
    throw new QuantError('E_NOT_ONNX', `${given} is an address: omniquant downloads nothing`, exportHint('CHECKPOINT'))
  if (HUB_ID.test(given))
    throw new QuantError(
      'E_FILE_NOT_FOUND',
      `there is no folder ${given} here; if it is a name on Hugging Face: omniquant downloads nothing`,
      exportHint(given),
    )
  refuseCheckpoint(given)
}
