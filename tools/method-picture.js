#!/usr/bin/env node
/**
 * @file Draws docs/method.svg: one group of weights, rounded over its whole range, clipped, and with learned rounding. All positions and
 * errors are computed here, from seeded numbers.
 *
 *     node tools/method-picture.js [OUT.svg]
 */

import { writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const BITS = 3
const LEVELS = 2 ** BITS - 1
const COUNT = 10
const SAMPLES = 64

/** Numbers in [0, 1), the same for every run (mulberry32). */
function randomNumbers(seed) {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

const random = randomNumbers(10)
const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())

// Weights of a group, with one that is far from the others, and inputs that share a part, as those of real layers do.
const weights = [...Array.from({ length: COUNT - 1 }, () => 0.5 * normal()), 1.9].sort((a, b) => a - b)
const inputs = Array.from({ length: SAMPLES }, () => {
  const shared = normal()
  return weights.map(() => shared + 0.5 * normal())
})

/** Scale and zero point for the range [low, high], which has zero in it. */
function gridOf(low, high) {
  const scale = (high - low) / LEVELS
  return { scale, zero: Math.round(-low / scale) }
}

const clamp = code => Math.min(Math.max(code, 0), LEVELS)
const valueOf = ({ scale, zero }, code) => (code - zero) * scale
const nearest = grid => weights.map(w => clamp(Math.round(w / grid.scale) + grid.zero))

/** Mean squared error of the output x w over the inputs. */
function outputError(grid, codes) {
  const errors = weights.map((w, i) => valueOf(grid, codes[i]) - w)
  const outputs = inputs.map(x => x.reduce((sum, xi, i) => sum + xi * errors[i], 0))
  return outputs.reduce((sum, y) => sum + y * y, 0) / SAMPLES
}

/** The range, among shares of both ends, whose rounded weights give the least output error. */
function clipped() {
  const [low, high] = [Math.min(0, weights[0]), Math.max(0, weights.at(-1))]
  const shares = Array.from({ length: 15 }, (_, i) => 1 - i * 0.05)
  const grids = shares.flatMap(a => shares.map(b => gridOf(low * a, high * b)))
  const errors = grids.map(grid => outputError(grid, nearest(grid)))
  return grids[errors.indexOf(Math.min(...errors))]
}

/** Codes below or above each weight, chosen together for the least output error: all choices are tried. */
function bestRounding(grid) {
  const below = weights.map(w => Math.floor(w / grid.scale) + grid.zero)
  const ways = Array.from({ length: 2 ** COUNT }, (_, way) => below.map((code, i) => clamp(code + ((way >> i) & 1))))
  const errors = ways.map(codes => outputError(grid, codes))
  return ways[errors.indexOf(Math.min(...errors))]
}

const [WIDTH, PANEL, MARGIN, TOP] = [760, 150, 40, 20]
const [from, to] = [Math.min(...weights) - 0.25, Math.max(...weights) + 0.25]
const xOf = value => Math.round(MARGIN + ((value - from) / (to - from)) * (WIDTH - 2 * MARGIN))

function panel(title, grid, codes, y) {
  const round = nearest(grid)
  const [dots, line] = [y + 48, y + 104]
  const arrows = weights.map((w, i) => {
    const kind = codes[i] === round[i] ? 'move' : 'moved'
    return `<line class="${kind}" x1="${xOf(w)}" y1="${dots}" x2="${xOf(valueOf(grid, codes[i]))}" y2="${line}"/><circle cx="${xOf(w)}" cy="${dots}" r="4"/>`
  })
  const ticks = Array.from({ length: LEVELS + 1 }, (_, code) => {
    const x = xOf(valueOf(grid, code))
    return `<line class="tick" x1="${x}" y1="${line - 6}" x2="${x}" y2="${line + 6}"/><text class="code" x="${x}" y="${line + 22}">${code}</text>`
  })
  const facts = `scale ${grid.scale.toFixed(2)}, zero point ${grid.zero}, error of the output ${outputError(grid, codes).toFixed(3)}`
  return [
    `<text class="title" x="${MARGIN}" y="${y + 22}">${title}</text>`,
    `<text class="facts" x="${WIDTH - MARGIN}" y="${y + 22}">${facts}</text>`,
    `<line class="axis" x1="${MARGIN}" y1="${line}" x2="${WIDTH - MARGIN}" y2="${line}"/>`,
    ...arrows,
    ...ticks,
  ].join('\n')
}

function draw() {
  const whole = gridOf(Math.min(0, weights[0]), weights.at(-1))
  const narrow = clipped()
  const panels = [
    ['Whole range, to nearest', whole, nearest(whole)],
    ['Clipped', narrow, nearest(narrow)],
    ['Clipped, learned rounding', narrow, bestRounding(narrow)],
  ]
  const height = TOP + panels.length * PANEL
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img">
<title>Ten weights and the eight codes they are rounded to, in three ways</title>
<style>
.back { fill: #f6f8fa; stroke: #d0d7de }
text { font: 13px system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328 }
.title { font-weight: bold }
.facts { text-anchor: end; fill: #59636e }
.code { text-anchor: middle; fill: #59636e }
circle { fill: #0969da }
.axis, .tick { stroke: #59636e }
.tick { stroke-width: 2 }
.move { stroke: #0969da; stroke-opacity: 0.5 }
.moved { stroke: #bc4c00; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
  .back { fill: #0d1117; stroke: #3d444d }
  text { fill: #f0f6fc }
  .facts, .code { fill: #9198a1 }
  circle { fill: #4493f8 }
  .axis, .tick { stroke: #9198a1 }
  .move { stroke: #4493f8 }
  .moved { stroke: #db6d28 }
}
</style>
<rect class="back" x="0.5" y="0.5" width="${WIDTH - 1}" height="${height - 1}" rx="8"/>
${panels.map((each, i) => panel(...each, TOP / 2 + i * PANEL)).join('\n')}
</svg>
`
}

writeFileSync(resolve(process.argv[2] ?? join(import.meta.dirname, '../docs/method.svg')), draw())
