/** @file Help of the benches. The first comment of a bench is its help text. */

import { readFileSync } from 'node:fs'

/** Text of the first doc comment of a file, without the comment marks. */
function firstComment(file) {
  const [, comment] = /\/\*\*([\s\S]*?)\*\//.exec(readFileSync(file, 'utf8'))
  return comment
    .replace(/^\s*\*? ?/gm, '')
    .replace(/^@file /, '')
    .trim()
}

/** Prints the help text and ends the process when --help was given. */
export function showHelp(file) {
  if (!process.argv.includes('--help')) return
  console.log(firstComment(file))
  process.exit(0)
}

/** Prints a problem with the arguments and the help text, and ends the process with exit code 2. */
export function wrongUsage(file, problem) {
  console.error(`${problem}\n\n${firstComment(file)}`)
  process.exit(2)
}
