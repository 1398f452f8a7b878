/**
 * @file Lint step: a doc comment begins with a noun or a verb of the field, never with a question word.
 *
 *     node tools/check-words.js [folder ...]      default: src
 */

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import process from 'node:process'

const QUESTION = /^(What|Where|Whether|Which|Who|Whose|How|When|Why|Of|So|Than|To)\b/

const folders = process.argv.length > 2 ? process.argv.slice(2) : ['src']
const files = folders.flatMap(folder =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter(name => /\.(ts|js)$/.test(name))
    .map(name => join(folder, name)),
)
let count = 0
for (const file of files) {
  const text = readFileSync(file, 'utf8')
  for (const { index, 1: comment } of text.matchAll(/\/\*\*([\s\S]*?)\*\//g)) {
    const words = comment.replace(/^\s*\*? ?/gm, '').trim()
    const sentence = words.replace(/^@file\s+/, '')
    if (!QUESTION.test(sentence)) continue
    const line = text.slice(0, index).split('\n').length
    console.log(`${file}:${line} begins with "${sentence.split(' ').slice(0, 6).join(' ')} ..."`)
    count++
  }
}
if (count > 0) {
  console.log(`${count} doc comments begin with a question word: begin with the noun or the verb.`)
  process.exitCode = 1
}
