// The words for a change of paths have names of interfaces in them, which come from outside.
import { expect, test } from 'vitest'
import { PathNews } from '#dist/src/backend/path-news.js'
import { States } from '#dist/src/backend/states.js'

test('the last change is told with its number, escaped', () => {
  const states = new States()
  const news = new PathNews(states)
  expect(states.read()).toEqual({ pathChanges: 0 })
  for (const name of ['v0', 'v\x1b[2J']) news.note(`packets go by ${name} now`)
  expect(states.read()).toEqual({
    pathChanges: 2,
    lastPathChange: expect.stringMatching(/^\S+Z packets go by v\\x1b\[2J now$/),
  })
  expect(states.changes).toBe(2)
})
