/** @file Scripts by which shells complete commands, options and their values, made of the tables of options. Knows no argument parser. */

import { GENERATE_RULES } from '../quant/terms/generate-options.ts'
import { RULES, USUAL_SCHEMES } from '../quant/terms/option-rules.ts'
import type { Rule } from '../quant/terms/check-options.ts'
import { EVALUATE_RULES, INSPECT_RULES } from '../quant/terms/read-options.ts'
import { type FlagRow, longFlag, placeholder, shortFlag, takesPath } from './flag-row.ts'

/** A command to complete. */
export interface CompletedCommand {
  readonly name: string
  readonly summary: string
  readonly rows: readonly FlagRow[]
  /** True where an argument of it is a file. */
  readonly takesFiles: boolean
  /** Values of an argument that has few. */
  readonly words: readonly string[]
}

/** An option to complete. */
interface Completed {
  /** "--output", and "-o" where there is one. */
  readonly flags: readonly string[]
  readonly help: string
  /** Argument that must follow: its name. */
  readonly argument: string | undefined
  readonly takesPath: boolean
  readonly values: readonly string[]
}

/** The same key is the same option in every command. */
const VALUES = { ...GENERATE_RULES, ...INSPECT_RULES, ...EVALUATE_RULES, ...RULES } as Readonly<Record<string, Rule>>

function optionOf(row: FlagRow): Completed {
  const name = placeholder(row)
  return {
    flags: [...new Set([longFlag(row), shortFlag(row)])],
    help: row.help,
    argument: row.flags.includes('<') ? name : undefined,
    takesPath: takesPath(row),
    // A placeholder of a flag without an argument has no values, and a value in [] may be left out.
    values: row.flags.includes('<') ? (VALUES[row.key]?.values ?? []).map(String) : [],
  }
}

const HELP: Completed = { flags: ['--help'], help: 'show the help', argument: undefined, takesPath: false, values: [] }

/** Options of a command. A scheme is a flag of its own besides. */
function optionsOf({ rows }: CompletedCommand): Completed[] {
  const schemes = rows.some(({ key }) => key === 'scheme') ? USUAL_SCHEMES : []
  const flags = schemes.map(name => ({ ...HELP, flags: [`--${name}`], help: `scheme ${name}` }))
  return [...rows.map(optionOf), ...flags, HELP]
}

/** A text in single quotes for bash and zsh. */
const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`

const FIRST_WORDS = ['--help', '--version']

function bashCommand(command: CompletedCommand): string[] {
  const options = optionsOf(command)
  const flags = options.flatMap(each => each.flags)
  const cases = options
    .filter(each => each.argument !== undefined)
    .map(({ flags, values, takesPath }) => {
      const action = takesPath
        ? '_omniquant_files "$current"'
        : values.length > 0
          ? `_omniquant_words ${quoted(values.join(' '))} "$current"`
          : ':'
      return `        ${flags.join('|')}) ${action}; return ;;`
    })
  const argument = command.words.length > 0 ? `_omniquant_words ${quoted(command.words.join(' '))} "$current"` : ':'
  return [
    `    ${command.name})`,
    '      case $previous in',
    ...cases,
    '      esac',
    `      if [[ $current == -* ]]; then _omniquant_words ${quoted(flags.join(' '))} "$current"`,
    `      else ${command.takesFiles ? '_omniquant_files "$current"' : argument}; fi ;;`,
  ]
}

// Runs in bash 3.2 too, which macOS has: no mapfile, and compopt only where it is there.
const bash = (commands: readonly CompletedCommand[]): string[] => [
  '# Completion of omniquant in bash: put this line into ~/.bashrc',
  '#   source <(omniquant completion bash)',
  '_omniquant_words() {',
  '  local word',
  '  for word in $1; do [[ $word == "$2"* ]] && COMPREPLY+=("$word"); done',
  '}',
  '_omniquant_files() {',
  '  local line',
  '  compopt -o filenames 2>/dev/null',
  '  while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$1")',
  '}',
  '_omniquant() {',
  '  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]}',
  '  COMPREPLY=()',
  '  # --target=web is three words for readline.',
  "  if [[ $current == '=' ]]; then current=''",
  "  elif [[ $previous == '=' ]]; then previous=${COMP_WORDS[COMP_CWORD-2]}; fi",
  `  if (( COMP_CWORD == 1 )); then _omniquant_words ${quoted([...commands.map(({ name }) => name), ...FIRST_WORDS].join(' '))} "$current"; return; fi`,
  '  case ${COMP_WORDS[1]} in',
  ...commands.flatMap(bashCommand),
  '  esac',
  '}',
  'complete -F _omniquant omniquant',
]

/** A help text in the [] of _arguments, and a name between its colons. */
const zshText = (text: string): string => text.replace(/[\\[\]:]/g, '\\$&')

function zshOption({ flags, help, argument, takesPath, values }: Completed): string {
  const action = takesPath ? '_files' : values.length > 0 ? `(${values.join(' ')})` : ' '
  const value = argument === undefined ? '' : `:${zshText(argument)}:${action}`
  const [long, short] = flags
  const names = short === undefined ? '' : `(${long} ${short})`
  // Of a flag with a value, zsh completes --flag=value too.
  return flags
    .map(flag => {
      const joined = argument !== undefined && flag.startsWith('--') ? '=' : ''
      return `        ${quoted(`${names}${flag}${joined}[${zshText(help)}]${value}`)} \\`
    })
    .join('\n')
}

const zshCommand = (command: CompletedCommand): string[] => [
  `    ${command.name})`,
  '      _arguments -S \\',
  ...optionsOf(command).map(zshOption),
  command.takesFiles ? "        '*:file:_files' ;;" : `        ${quoted(`1:argument:(${command.words.join(' ')})`)} ;;`,
]

const zsh = (commands: readonly CompletedCommand[]): string[] => [
  '#compdef omniquant',
  '# Completion of omniquant in zsh: put this line into ~/.zshrc, behind compinit',
  '#   source <(omniquant completion zsh)',
  '_omniquant() {',
  '  local -a commands',
  '  commands=(',
  ...commands.map(({ name, summary }) => `    ${quoted(`${name}:${summary}`)}`),
  '  )',
  '  if (( CURRENT == 2 )); then _describe command commands; return; fi',
  '  local command=${words[2]}',
  '  shift words',
  '  (( CURRENT-- ))',
  '  case $command in',
  ...commands.flatMap(zshCommand),
  '  esac',
  '}',
  'compdef _omniquant omniquant',
]

/** A text in single quotes for fish. */
const fishQuoted = (text: string): string => `'${text.replace(/[\\']/g, '\\$&')}'`

function fishOption(command: string, { flags, help, argument, takesPath, values }: Completed): string {
  const names = flags.map(flag => (flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`)).join(' ')
  const listed = values.length > 0 ? ` -a ${fishQuoted(values.join(' '))}` : ''
  const value = argument === undefined ? '' : takesPath ? ' -r -F' : ` -x${listed}`
  return `complete -c omniquant -n '__fish_seen_subcommand_from ${command}' ${names}${value} -d ${fishQuoted(help)}`
}

const fishCommand = (command: CompletedCommand): string[] => [
  `complete -c omniquant -n __fish_use_subcommand -a ${command.name} -d ${fishQuoted(command.summary)}`,
  ...(command.takesFiles ? [`complete -c omniquant -n '__fish_seen_subcommand_from ${command.name}' -F`] : []),
  ...(command.words.length > 0
    ? [
        `complete -c omniquant -n '__fish_seen_subcommand_from ${command.name}' -a ${fishQuoted(command.words.join(' '))}`,
      ]
    : []),
  ...optionsOf(command).map(option => fishOption(command.name, option)),
]

const fish = (commands: readonly CompletedCommand[]): string[] => [
  '# Completion of omniquant in fish:',
  '#   omniquant completion fish > ~/.config/fish/completions/omniquant.fish',
  'complete -c omniquant -f',
  ...commands.flatMap(fishCommand),
]

const SCRIPTS: Readonly<Record<string, (commands: readonly CompletedCommand[]) => string[]>> = { bash, zsh, fish }

export const SHELLS: readonly string[] = Object.keys(SCRIPTS)

/** Script for a shell. @param shell one of `SHELLS`. */
export const completionScript = (shell: string, commands: readonly CompletedCommand[]): string =>
  `${SCRIPTS[shell]!(commands).join('\n')}\n`
