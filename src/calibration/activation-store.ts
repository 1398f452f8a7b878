/** @file Activations of many samples in one temporary file, as large as the disk allows. Knows no model. */

import { closeSync, ftruncateSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { randomUUID } from 'node:crypto'
import { internalError, messageOf, QuantError } from '../errors.ts'
import { elementCount, type Tensor } from '../graph/tensor.ts'

/** One system call moves at most this much; Linux itself stops short of 2 GiB. */
const MAX_BYTES_PER_CALL = 1 << 30

/**
 * A float32 array [samples, ...sampleDims] on disk: the inputs and targets of a block.
 * Nothing is kept in memory; samples may be written and read in any order. `close` deletes the file.
 */
export class ActivationStore {
  readonly path: string
  readonly samples: number
  readonly sampleDims: readonly number[]
  private readonly sampleLength: number
  private readonly written: Uint8Array
  private descriptor: number | undefined

  /** @throws E_OUTPUT when the file cannot be made in `folder`. */
  constructor(folder: string, samples: number, sampleDims: readonly number[]) {
    this.path = join(folder, `activations-${randomUUID()}.f32`)
    this.samples = samples
    this.sampleDims = sampleDims
    this.sampleLength = elementCount(sampleDims)
    this.written = new Uint8Array(samples)
    try {
      this.descriptor = openSync(this.path, 'wx+')
      ftruncateSync(this.descriptor, samples * this.sampleLength * 4)
    } catch (error) {
      this.close()
      throw this.failure('make', error)
    }
  }

  private failure(verb: string, error: unknown): QuantError {
    const size = `${Math.ceil((this.samples * this.sampleLength * 4) / 2 ** 20)} MiB`
    const hint =
      (error as NodeJS.ErrnoException).code === 'ENOSPC'
        ? `The disk is full: this file needs ${size}. Free some space, choose another work folder, or use fewer samples.`
        : 'Choose a work folder on a disk that can be written.'
    return new QuantError('E_OUTPUT', `cannot ${verb} ${this.path}: ${messageOf(error)}`, hint, { cause: error })
  }

  private opened(): number {
    if (this.descriptor === undefined) throw internalError(`the activations in ${this.path} are closed`)
    return this.descriptor
  }

  private checkRange(first: number, count: number): void {
    if (first < 0 || count < 0 || first + count > this.samples) {
      throw internalError(`samples ${first} to ${first + count} of ${this.samples} in ${this.path}`)
    }
  }

  /** Writes one sample, sampleDims row-major; or several that follow each other. @throws E_OUTPUT (disk full) */
  write(index: number, data: Float32Array): void {
    const descriptor = this.opened()
    const count = data.length / this.sampleLength
    if (!Number.isInteger(count)) {
      throw internalError(`${data.length} numbers are not whole samples of [${this.sampleDims.join(', ')}]`)
    }
    this.checkRange(index, count)
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    const start = index * this.sampleLength * 4
    try {
      for (let done = 0; done < bytes.length;) {
        done += writeSync(descriptor, bytes, done, Math.min(bytes.length - done, MAX_BYTES_PER_CALL), start + done)
      }
    } catch (error) {
      throw this.failure('write', error)
    }
    this.written.fill(1, index, index + count)
  }

  /** Samples first .. first + count - 1, [count, ...sampleDims]. @throws E_OUTPUT when the disk does not give them back. */
  read(first: number, count: number): Float32Array {
    const descriptor = this.opened()
    this.checkRange(first, count)
    const missing = this.written.subarray(first, first + count).indexOf(0)
    if (missing >= 0) throw internalError(`sample ${first + missing} in ${this.path} was never written`)
    const result = new Float32Array(count * this.sampleLength)
    const bytes = new Uint8Array(result.buffer)
    const start = first * this.sampleLength * 4
    try {
      for (let done = 0; done < bytes.length;) {
        const got = readSync(descriptor, bytes, done, Math.min(bytes.length - done, MAX_BYTES_PER_CALL), start + done)
        if (got === 0) throw new Error('the file ends too early')
        done += got
      }
    } catch (error) {
      throw this.failure('read', error)
    }
    return result
  }

  /** The whole array as a tensor that lies on disk, for programs that map it. Valid until `close`. */
  tensor(): Tensor {
    this.opened()
    const dims = [this.samples, ...this.sampleDims]
    return { dtype: 'float32', dims, data: { file: this.path, offset: 0, length: elementCount(dims) * 4 } }
  }

  /** Deletes the file; more than once is harmless. */
  close(): void {
    if (this.descriptor === undefined) return
    closeSync(this.descriptor)
    this.descriptor = undefined
    unlinkSync(this.path)
  }
}
