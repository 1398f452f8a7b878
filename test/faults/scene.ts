/**
 * @file Folders of a run with faults: a source, an older output, and files of others everywhere. Always under the same path,
 * because files that a run leaves may name it.
 */

import { createHash } from 'node:crypto'
import { cpSync, lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { saveModel } from '../../src/graph/onnx-file/save.ts'
import { toyDecoder, toyTokens } from '../helpers/toy-decoder.ts'
import { FaultWorker, type Outcome, type Task, type TaskOptions } from './worker-process.ts'
import { PLAIN } from '../helpers/method.ts'

/** Contents of a folder, path -> "folder", "link to ...", or the hash of a file. */
export type Snapshot = ReadonlyMap<string, string>

export function snapshot(folder: string): Snapshot {
  const found = new Map<string, string>()
  const visit = (path: string, name: string) => {
    const stats = lstatSync(path)
    if (stats.isSymbolicLink()) found.set(name, `link to ${readlinkSync(path)}`)
    else if (stats.isDirectory()) {
      if (name !== '') found.set(name, 'folder')
      for (const inner of readdirSync(path)) visit(join(path, inner), name === '' ? inner : `${name}/${inner}`)
    } else found.set(name, createHash('sha256').update(readFileSync(path)).digest('hex').slice(0, 16))
  }
  visit(folder, '')
  return found
}

/** Paths whose contents differ, or that only one side has. */
export function differences(a: Snapshot, b: Snapshot): string[] {
  return [...new Set([...a.keys(), ...b.keys()])].filter(path => a.get(path) !== b.get(path)).sort()
}

/** Files of somebody else, some with names like those of our own files. */
const STRANGERS = [
  ...['source/photo.jpg', 'source/.hidden', 'source/.model.onnx.tmp', 'source/block-000.record'],
  ...['out/notes.txt', 'out/q.onnx.bak', 'out/.other.onnx.tmp', 'out/other.onnx', 'out/other.onnx_data', 'out/x.tmp'],
  ...['out/.other.onnx.omniquant/run.record', 'out/deep/er/inner.f32', 'out/lock', 'params/other.safetensors'],
  ...['work/float-000.f32', 'work/lock', 'work/run.record', 'work/other/run.record'],
]

const BASE: Omit<TaskOptions, 'model' | 'lwc' | 'let'> = {
  ...PLAIN,
  ...{
    scheme: 'w4a16g32',
    samples: 2,
    seqLen: 7,
    epochs: 1,
    seed: 0,
    learningRate: 1e-2,
    schedule: 'cosine',
  },
  ...{ accuracyLevel: 0, augLoss: false, lookahead: false, threads: 1 },
}

/** onnxruntime keeps files of its own in the system's temporary folder. */
const LEFT_BY_ONNXRUNTIME = /^(\.ses|mat-debug-\d+\.log)$/

export type Way = 'rounding' | 'learning'

/** A place for runs with faults, one after the other. Places do not know of each other. */
export class Place {
  /** Folder that holds everything a run should touch. */
  readonly folder: string
  /** Current and temporary folder of the processes. They should leave nothing in it. */
  private readonly elsewhere: readonly [string, string]
  private readonly templates: string
  private spare: FaultWorker | undefined

  constructor(root: string) {
    this.folder = join(root, 'case')
    this.templates = join(root, 'templates')
    this.elsewhere = [join(root, 'current'), join(root, 'temporary')]
    for (const folder of [this.folder, this.templates, ...this.elsewhere]) mkdirSync(folder, { recursive: true })
  }

  path(name: string): string {
    return join(this.folder, name)
  }

  /** Runs: one rounds beside the old output; one learns, with a work folder and a file of parameters elsewhere. */
  options(way: Way, change: Partial<TaskOptions> = {}): TaskOptions {
    const learning: Partial<TaskOptions> = {
      ...{ saveParams: this.path('params/learned.safetensors'), workDir: this.path('work/run') },
    }
    return {
      ...BASE,
      ...{ model: this.path('source'), calib: this.path('source/calib.jsonl'), output: this.path('out/q.onnx') },
      ...{ lwc: way === 'learning', let: false },
      ...(way === 'learning' && learning),
      ...change,
    }
  }

  newWorker(): FaultWorker {
    return new FaultWorker(...this.elsewhere)
  }

  /** A process that waits for tasks. */
  worker(): FaultWorker {
    const spare = this.spare?.alive ? this.spare : this.newWorker()
    this.spare = undefined
    return spare
  }

  /** Keeps a process for the next run. */
  giveBack(worker: FaultWorker): void {
    if (worker.alive) this.spare = worker
  }

  async run(task: Task): Promise<Outcome> {
    const worker = this.worker()
    const outcome = await worker.run(task)
    this.giveBack(worker)
    return outcome
  }

  /** Gives the next run a new process, without the memory and the number of the last one. */
  async newProcess(): Promise<void> {
    await this.spare?.kill()
    this.spare = undefined
  }

  keep(template: string): Snapshot {
    cpSync(this.folder, join(this.templates, template), { recursive: true, verbatimSymlinks: true })
    return snapshot(this.folder)
  }

  restore(template: string): void {
    rmSync(this.folder, { recursive: true, force: true })
    cpSync(join(this.templates, template), this.folder, { recursive: true, verbatimSymlinks: true })
  }

  /** Makes the folders of a run and keeps them as template "base". */
  async prepare(): Promise<Snapshot> {
    mkdirSync(this.path('source'))
    const { model } = toyDecoder({ layers: 2 })
    await saveModel(model, this.path('source/model.onnx'), { externalData: true, dataFileName: 'model.onnx_data' })
    writeFileSync(this.path('source/calib.jsonl'), toyTokens(2, 8))
    writeFileSync(
      this.path('source/config.json'),
      '{"vocab_size":96,"transformers.js_config":{"use_external_data_format":true}}',
    )
    writeFileSync(this.path('source/tokenizer.json'), `{"of":"the source"${' '.repeat(5000)}}`)
    writeFileSync(this.path('source/tokenizer_config.json'), '{"of":"the source"}')
    await this.expectDone({ options: this.options('rounding', { scheme: 'w8a16g32' }) })
    for (const name of ['tokenizer.json', 'tokenizer_config.json']) rmSync(this.path(`out/${name}`))
    writeFileSync(
      this.path('out/config.json'),
      '{"vocab_size":96,"transformers.js_config":{"use_external_data_format":{"other.onnx":true}}}',
    )
    mkdirSync(this.path('params'))
    writeFileSync(this.path('params/learned.safetensors'), 'learned before')
    for (const name of STRANGERS) {
      mkdirSync(dirname(this.path(name)), { recursive: true })
      writeFileSync(this.path(name), `${name} of somebody else`)
    }
    return this.keep('base')
  }

  /** Files in folders that have nothing to do with the run. */
  stray(): string[] {
    return this.elsewhere.flatMap(folder => readdirSync(folder)).filter(name => !LEFT_BY_ONNXRUNTIME.test(name))
  }

  async expectDone(task: Task): Promise<Extract<Outcome, { type: 'done' }>> {
    const outcome = await this.run(task)
    if (outcome.type !== 'done') throw new Error(`an undisturbed run ended so: ${JSON.stringify(outcome)}`)
    return outcome
  }

  async close(): Promise<void> {
    await this.newProcess()
  }
}
