/** @file The effort of a run: limits are kept to, and what was measured once stays. */

import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { WorkFolder, workPlace } from '../../../src/files/work-folder.ts'
import { keyName, nameOptions } from '../../../src/option-mark.ts'
import { analyze } from '../../../src/quant/find/analyze.ts'
import { chooseEffort } from '../../../src/quant/learn/choose-effort.ts'
import { parseScheme } from '../../../src/quant/terms/scheme.ts'
import { methodOf } from '../../helpers/method.ts'
import { tempDir } from '../../helpers/temp-dir.ts'

const folder = tempDir()
const ASKED = { samples: 128, epochs: 4, learningRate: 5e-2, schedule: 'cosine' as const }
const METHOD = methodOf({ ...ASKED, scheme: parseScheme('w4a16g32'), session: { threads: 1 } })
const LIMITED = { ...METHOD, ...ASKED }
const analysis = await analyze(resolve(import.meta.dirname, '../../../fixtures/tiny-llama'), 32)

test('a model that is large for the work it may take gets fewer samples, with a note', async () => {
  const work = await WorkFolder.open(workPlace(join(folder, 'q.onnx'), undefined), {}, false)
  const weights = 3 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 160)
  const steps = (count: number) => 6 * weights * 32 * count
  expect(await chooseEffort({ ...LIMITED, maxWork: steps(512) }, analysis, work)).toEqual({ effort: ASKED, notes: [] })
  const { effort, notes } = await chooseEffort({ ...LIMITED, maxWork: steps(200) }, analysis, work)
  expect(effort).toMatchObject({ samples: 50, epochs: 4 })
  expect(notes.map(note => nameOptions(note, keyName))).toEqual([
    'learned from 50 samples in 4 epochs, as the model is large: `samples` and `epochs` ask for more',
  ])
  work.remove()
})

test('a time budget is measured against a block, once for all runs', async () => {
  const place = workPlace(join(folder, 'time', 'q.onnx'), undefined)
  const work = await WorkFolder.open(place, {}, false)
  await expect(chooseEffort({ ...LIMITED, timeBudgetMs: 1 }, analysis, work)).rejects.toMatchObject({ code: 'E_LIMIT' })
  const much = await chooseEffort({ ...LIMITED, timeBudgetMs: 1e9 }, analysis, work)
  expect(much).toEqual({ effort: ASKED, notes: ['learned from 128 samples in 4 epochs, within the time budget'] })
  work.release()
  const again = await WorkFolder.open(place, {}, false)
  // Far too short, had it not been decided before.
  expect((await chooseEffort({ ...LIMITED, timeBudgetMs: 1 }, analysis, again)).effort).toEqual(ASKED)
  again.remove()
})
