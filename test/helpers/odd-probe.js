/** @file A process that tries a device and behaves as the variable ODD says: for tests of the process that watches it. */

import process from 'node:process'
import { setInterval } from 'node:timers'

const answer = failure => process.send({ failure })

const WAYS = {
  works: () => answer(undefined),
  // Some drivers crash when their process ends: the answer was there before.
  'works, and crashes at its end': () => process.send({ failure: undefined }, () => process.abort()),
  crashes: () => process.kill(process.pid, 'SIGSEGV'),
  hangs: () => setInterval(() => {}, 1000),
  leaves: () => process.exit(3),
  'gives wrong numbers': () => answer('wrong numbers: last[0] is 0, not 24'),
  'says why on stderr': () => {
    process.stderr.write(
      "Warning: Couldn't load Vulkan: libvulkan.so.1: cannot open shared object file: No such file or directory\n",
    )
    answer('Failed to get a WebGPU adapter: No supported adapters')
  },
}

WAYS[process.env.ODD]()
