import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { AtomicFile, createFile, temporariesOf, writeAtomically } from '../../src/files/atomic-file.ts'
import { testFolder } from '../helpers/test-folder.ts'

test('a file appears under its name when it is published, and only then', () => {
  const folder = testFolder()
  const path = join(folder, 'file')
  const file = new AtomicFile(path)
  file.write(Buffer.from('wrold'))
  file.write(Buffer.from('or'), 1)
  expect(existsSync(path)).toBe(false)
  expect(temporariesOf(path)).toEqual([file.temporary])
  file.publish()
  expect(readFileSync(path, 'utf8')).toBe('world')
  expect(temporariesOf(path)).toEqual([])
})

test('a discarded file leaves what was there', () => {
  const folder = testFolder()
  const path = join(folder, 'file')
  writeFileSync(path, 'old')
  const file = new AtomicFile(path)
  file.write(Buffer.from('new'))
  file.discard()
  expect(readFileSync(path, 'utf8')).toBe('old')
  expect(readdirSync(join(path, '..'))).toEqual(['file'])
})

test('a link under the name is replaced, and what it leads to stays', () => {
  const folder = testFolder()
  const victim = join(folder, 'victim')
  writeFileSync(victim, 'secret')
  const path = join(folder, 'file')
  symlinkSync(victim, path)
  writeAtomically(path, Buffer.from('ours'))
  expect(readFileSync(victim, 'utf8')).toBe('secret')
  expect(lstatSync(path).isSymbolicLink()).toBe(false)
})

test('a new file is never an old one, nor what a link leads to', () => {
  const folder = testFolder()
  const victim = join(folder, 'victim')
  writeFileSync(victim, 'secret')
  const link = join(folder, 'link')
  symlinkSync(victim, link)
  symlinkSync(join(folder, 'nothing'), join(folder, 'dangling'))
  for (const name of [link, victim, join(folder, 'dangling')]) expect(() => createFile(name)).toThrow('EEXIST')
  expect(readFileSync(victim, 'utf8')).toBe('secret')
})

test('temporary files are told from links, folders and files of other names', () => {
  const folder = testFolder()
  const path = join(folder, 'file')
  const name = (rest: string) => join(folder, `.file.${rest}`)
  writeFileSync(name('0123456789abcdef.tmp'), '')
  writeFileSync(name('tmp'), '')
  writeFileSync(name('0123456789abcdef.tmp.bak'), '')
  mkdirSync(name('1123456789abcdef.tmp'))
  symlinkSync(path, name('2123456789abcdef.tmp'))
  expect(temporariesOf(path)).toEqual([name('0123456789abcdef.tmp')])
})
