/** Messages that count: '1 heap is', not '1 heaps are'. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { counted } from '#dist/src/errors.js'
import { ROOT } from './support.js'

const NOUNS =
  'heaps|packets|endpoints|items|samples|batches|elements|entries|pointers|posts|queue pairs|characters|dimensions|threads|senders|streams|messages|segments|bits'
/** A number before the plural of what it counts, in a template. */
const BARE = new RegExp(String.raw`\$\{((?:[^{}]|\{[^{}]*\})*)\} (?:${NOUNS})\b(?!/s)`, 'g')
/** Numbers that are never 1: limits of ours and what exceeds them. */
const NEVER_ONE = [
  'MAX_ENDPOINTS',
  'MAX_DIMENSIONS',
  'MAX_ITEMS',
  'MAX_PACKETS',
  'RECORD_WORDS - THREADS_AT',
  'found.name',
  'family',
  'value.length',
  'text.length',
  'items.length',
  'list.length',
  'resolved.length',
  'count',
  'packets',
  'flowLimit',
  'heapAddressBits',
  'dtype',
  'typeText',
  "batches.join(' or ')",
  // A mistake of ours, not of users.
  'heaps',
]

const bare = (source: string): string[] => [...source.matchAll(BARE)].map(([, number]) => number!)

test('no message has a number before a plural that may be one', () => {
  const found = ['src', 'ffi'].flatMap((room) =>
    readdirSync(join(ROOT, room), { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.ts'))
      .flatMap((file) => bare(readFileSync(join(ROOT, room, file), 'utf8')).map((number) => `${room}/${file}: ${number}`)),
  )
  expect(found.filter((it) => !NEVER_ONE.some((number) => it.endsWith(`: ${number}`)))).toEqual([])
})

test('a planted one is found', () => {
  const planted = String.raw`has \${n + 1} heaps, \${counted(n, 'packet')} and \${f({ a })} items of \${size} bytes`
  expect(bare(planted.replaceAll('\\', ''))).toEqual(['n + 1', 'f({ a })'])
})

test('counts agree with their nouns', () => {
  expect([counted(0, 'heap'), counted(1, 'heap'), counted(2, 'heap')]).toEqual(['0 heaps', '1 heap', '2 heaps'])
  expect([counted(1, 'batch', 'batches'), counted(3, 'batch', 'batches')]).toEqual(['1 batch', '3 batches'])
})
