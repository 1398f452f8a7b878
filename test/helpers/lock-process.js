/** @file A process that takes a lock on request and reports the result. Runs the built files, as users do. */

import process from 'node:process'
import { Lock } from '../../dist/files/lock.js'

let lock

async function answer(message) {
  if (message === 'release') {
    lock?.release()
    lock = undefined
    return 'released'
  }
  while (Date.now() < message.at);
  try {
    lock = await Lock.take(message.name, 'this output')
    return 'held'
  } catch (error) {
    return error.code
  }
}

process.on('message', message => void answer(message).then(text => process.send(text)))
process.send('ready')
