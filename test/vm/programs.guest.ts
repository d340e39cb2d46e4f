/** The guest's programs: those that the suite brings are there, and those that only this machine happens to have are not. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { sh } from './support.js'

test('no test can run a program that a plain Debian has not', () => {
  const extras = readFileSync('/run/vm/extras', 'utf8').split('\n').filter(Boolean)
  assert.deepEqual(extras.filter(existsSync), [])
})

test('the programs that the suite brings can be run', () => {
  assert.match(sh('tcpdump --version 2>&1'), /^tcpdump version/)
  assert.match(sh('tc -V'), /iproute2/)
})
