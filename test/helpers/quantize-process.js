/** @file A process that quantizes on request of its parent, which kills it. Runs the built files, as users do. */

import process from 'node:process'
import { quantizeModel } from '../../dist/quant/quantize-model.js'

process.once('message', options => {
  const onEvent = event => event.type === 'working' && process.send('begun')
  void quantizeModel(options, { onEvent, checkpointMs: 0 }).then(() => process.disconnect())
})
