/** @file Sizes and counts -> text for people. */

/** "999 B", "1.2 MB": powers of 1000, as file managers and download pages count. */
export function formatBytes(bytes: number): string {
  return formatScaled(bytes, ['B', 'kB', 'MB', 'GB', 'TB'])
}

/** "999", "1.2 M" */
export function formatCount(count: number): string {
  return formatScaled(count, ['', 'k', 'M', 'G', 'T']).trim()
}

function formatScaled(value: number, units: readonly string[]): string {
  let scaled = value
  let i = 0
  // 999.5 and above would be shown as 1000.
  while (scaled >= 999.5 && i < units.length - 1) {
    scaled /= 1000
    i += 1
  }
  return `${i > 0 && scaled < 9.95 ? scaled.toFixed(1) : scaled.toFixed(0)} ${units[i]}`
}
