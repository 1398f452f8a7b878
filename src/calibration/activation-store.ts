/** @file Activations of many samples in one file, as large as the disk allows. Knows no model. */

import { option } from '../option-mark.ts'
import { closeSync, fstatSync, fsyncSync, ftruncateSync, readSync } from 'node:fs'
import { internalError, messageOf, QuantError } from '../errors.ts'
import { createFile, removeQuietly } from '../files/atomic-file.ts'
import { diskHint, systemCode } from '../files/disk-errors.ts'
import { openPlainFile } from '../files/plain-file.ts'
import { writeFully } from '../files/write-fully.ts'
import { byteLength } from '../graph/dtype.ts'
import { elementCount, readBytes, type Tensor } from '../graph/tensor.ts'
import { readFloats, storeFloats } from '../kernels/float16.ts'

/** One system call moves at most this much; Linux itself stops short of 2 GiB. */
const MAX_BYTES_PER_CALL = 1 << 30

/** Types that hidden states are stored in. */
export type StateType = 'float32' | 'float16'

/**
 * An array [samples, ...sampleDims] on disk: the inputs and targets of a block.
 * Nothing is kept in memory; samples may be written and read in any order.
 */
export class ActivationStore {
  readonly path: string
  readonly samples: number
  readonly sampleDims: readonly number[]
  readonly dtype: StateType
  /** Bytes of one sample. */
  readonly sampleBytes: number
  private readonly written: Uint8Array
  private descriptor: number | undefined

  /**
   * A file that holds nothing yet, in place of one that may be there; or, when `existing`, one that a store of these dimensions left.
   * @throws E_OUTPUT when it cannot be made; E_RESUME when it should exist and is not what it should be.
   */
  constructor(
    path: string,
    samples: number,
    sampleDims: readonly number[],
    existing = false,
    dtype: StateType = 'float32',
  ) {
    this.path = path
    this.samples = samples
    this.sampleDims = sampleDims
    this.dtype = dtype
    this.sampleBytes = byteLength(dtype, elementCount(sampleDims))
    this.written = new Uint8Array(samples).fill(existing ? 1 : 0)
    if (existing) {
      this.reopen()
      return
    }
    try {
      // What had the name goes, be it a file or a link; what a link leads to stays.
      removeQuietly(path)
      this.descriptor = createFile(path)
      ftruncateSync(this.descriptor, this.sizeBytes)
    } catch (error) {
      this.remove()
      throw this.failure('make', error)
    }
  }

  private reopen(): void {
    const damaged = (how: string) =>
      new QuantError(
        'E_RESUME',
        `${this.path} ${how}`,
        `It cannot be gone on from there: start over with ${option('fresh', true)}.`,
      )
    try {
      this.descriptor = openPlainFile(this.path, true)
    } catch (error) {
      throw damaged(`cannot be opened: ${messageOf(error)}`)
    }
    const { size } = fstatSync(this.descriptor)
    if (size === this.sizeBytes) return
    this.close()
    throw damaged(`has ${size} bytes instead of ${this.sizeBytes}`)
  }

  private get sizeBytes(): number {
    return this.samples * this.sampleBytes
  }

  private failure(verb: string, error: unknown): QuantError {
    const size = `${Math.ceil(this.sizeBytes / 2 ** 20)} MiB`
    const hint =
      systemCode(error) === 'ENOSPC'
        ? `The disk is full: this file needs ${size}. Free some space, choose another disk with ${option('workDir')}, or use fewer samples.`
        : diskHint(error, `Choose another place for the work with ${option('workDir')}.`)
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
    this.writeTensor(index, storeFloats(this.dtype, [data.length], data))
  }

  /** Writes samples that have the type of the store. @throws E_OUTPUT (disk full) */
  writeTensor(index: number, tensor: Tensor): void {
    const descriptor = this.opened()
    const bytes = readBytes(tensor)
    const count = bytes.length / this.sampleBytes
    if (!Number.isInteger(count) || tensor.dtype !== this.dtype) {
      const numbers = `${tensor.dtype} [${tensor.dims.join(', ')}]`
      throw internalError(`${numbers} is not whole samples of ${this.dtype} [${this.sampleDims.join(', ')}]`)
    }
    this.checkRange(index, count)
    try {
      writeFully(descriptor, bytes, index * this.sampleBytes)
    } catch (error) {
      throw this.failure('write', error)
    }
    this.written.fill(1, index, index + count)
  }

  /** Samples first .. first + count - 1 as float32, [count, ...sampleDims]. @throws E_OUTPUT when the disk does not give them back. */
  read(first: number, count: number): Float32Array {
    return readFloats(this.tensor(first, count))
  }

  /** The same samples in the type of the store. @throws E_OUTPUT */
  tensor(first: number, count: number): Tensor {
    const descriptor = this.opened()
    this.checkRange(first, count)
    const missing = this.written.subarray(first, first + count).indexOf(0)
    if (missing >= 0) throw internalError(`sample ${first + missing} in ${this.path} was never written`)
    const bytes = new Uint8Array(count * this.sampleBytes)
    const start = first * this.sampleBytes
    try {
      for (let done = 0; done < bytes.length;) {
        const got = readSync(descriptor, bytes, done, Math.min(bytes.length - done, MAX_BYTES_PER_CALL), start + done)
        if (got === 0) throw new Error('the file ends too early')
        done += got
      }
    } catch (error) {
      throw this.failure('read', error)
    }
    return { dtype: this.dtype, dims: [count, ...this.sampleDims], data: bytes }
  }

  /** Waits until what was written is on the disk. @throws E_OUTPUT */
  sync(): void {
    try {
      fsyncSync(this.opened())
    } catch (error) {
      throw this.failure('write', error)
    }
  }

  /** Closes the file; it stays. It never throws: what must be on the disk went there with `sync`. More than once is harmless. */
  close(): void {
    try {
      if (this.descriptor !== undefined) closeSync(this.descriptor)
    } catch {
      // The descriptor is gone either way.
    }
    this.descriptor = undefined
  }

  /** Deletes the file. It never throws: the work folder is cleared at the end. More than once is harmless. */
  remove(): void {
    this.close()
    removeQuietly(this.path)
  }
}
