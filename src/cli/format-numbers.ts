/** @file Numbers -> text for people: sizes, counts, times. Knows no report. */

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

/** "0.4 s", "12 s", "3 min 20 s", "2 h 05 min" */
export function formatDuration(ms: number): string {
  if (ms < 9950) return `${(ms / 1000).toFixed(1)} s`
  const seconds = Math.round(ms / 1000)
  if (seconds < 60) return `${seconds} s`
  const two = (n: number) => String(n).padStart(2, '0')
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`
  const minutes = Math.round(seconds / 60)
  return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`
}

export function formatLoss(loss: number): string {
  return loss.toExponential(2)
}
