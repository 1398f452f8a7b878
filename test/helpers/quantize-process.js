/** @file A process that quantizes as it is told by its parent, to be killed. Runs the built files, as users do. */

import process from 'node:process'
import { quantizeModel } from '../../dist/index.js'

process.once('message', options => {
  void quantizeModel({ ...options, onEvent: event => event.type === 'working' && process.send('begun') }).then(() =>
    process.disconnect(),
  )
})
