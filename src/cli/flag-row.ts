/** @file A row of the tables of options, and the rows that several commands share. */

import { pageFile, wholeNumber } from './flag-values.ts'

/** Value of an option that takes one: from the text as typed, or from all texts of a repeatable option. */
type Parse = (text: string, flag: string) => unknown

/** One option of a command. */
export interface FlagRow<Key extends string = string> {
  /** As commander reads them: "-o, --output <path>". */
  readonly flags: string
  /** Field of the command's options. */
  readonly key: Key
  readonly help: string
  /** Default: the text itself, or true for an option without a value. */
  readonly parse?: Parse
  /** May be given several times. The value is the list of all, unless `join` makes one of them. */
  readonly repeatable?: true
  readonly join?: (texts: readonly string[]) => unknown
  /** Heading in the help, which holds for the rows that follow as well. */
  readonly group?: string
}

/** "path" of "-o, --output <path>"; undefined for an option without a value. */
export const placeholder = ({ flags }: FlagRow): string | undefined => /[<[]([^>\]]+)[>\]]/.exec(flags)?.[1]

/** Placeholders that stand for a path. */
const PATHS = ['file', 'folder', 'model', 'path']

/** True for an option whose value is a path. */
export const takesPath = (row: FlagRow): boolean => PATHS.includes(placeholder(row) ?? '')

/** "--output" of "-o, --output <path>". */
export const longFlag = ({ flags }: FlagRow): string => /--[\w-]+/.exec(flags)![0]

/** "-o" of "-o, --output <path>", and the long flag of options without a short one. */
export const shortFlag = (row: FlagRow): string => /^-\w\b/.exec(row.flags)?.[0] ?? longFlag(row)

export const CONFIG_ROW: FlagRow<'config'> = {
  flags: '--config <file>',
  key: 'config',
  help: 'options from a JSON file, by the keys of the library; what is typed wins (docs/config.md)',
}

export const PRINT_CONFIG_ROW: FlagRow<'printConfig'> = {
  flags: '--print-config',
  key: 'printConfig',
  help: 'print all options as such a file, defaults filled in, and run nothing',
}

export const JSON_ROW: FlagRow<'json'> = { flags: '--json', key: 'json', help: 'one JSON document on stdout' }

export const REPORT_ROW: FlagRow<'report'> = {
  flags: '--report <file>',
  key: 'report',
  help: 'also write the result as a page with plots (.html), which needs no network',
  parse: pageFile,
}

export const QUIET_ROW: FlagRow<'quiet'> = { flags: '--quiet', key: 'quiet', help: 'say nothing but errors' }

export const THREADS_ROW: FlagRow<'threads'> = {
  flags: '--threads <n>',
  key: 'threads',
  help: 'threads (default: as many as cores)',
  parse: wholeNumber,
}

export const DEVICE_ROW: FlagRow<'device'> = {
  flags: '--device <name>',
  key: 'device',
  help: 'auto, cpu, cuda, cuda:1 or webgpu (default: auto, CUDA where it works; `omniquant doctor` tries them)',
}
