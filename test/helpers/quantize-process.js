/** @file A process that quantizes on request of its parent, which kills it. Runs the built files, as users do. */

import process from 'node:process'
import { quantizeModel } from '../../dist/index.js'

process.once('message', options => {
  void quantizeModel({ ...options, onEvent: event => event.type === 'working' && process.send('begun') }).then(() =>
    process.disconnect(),
  )
})
