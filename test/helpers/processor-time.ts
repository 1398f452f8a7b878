/** @file Processor time of a piece of work. Unlike time of the clock it does not grow with what else the machine does. */

/** Milliseconds that the processor worked for this process while `work` ran. */
export function processorMs(work: () => void): number {
  const before = process.cpuUsage()
  work()
  const { user, system } = process.cpuUsage(before)
  return (user + system) / 1000
}
