// The command lines of docker/README.md (```sh run) are run as they stand there.
import { expect, test } from 'vitest'
import { codeBlocks, page } from '../support/documents.js'
import { command, needDocker } from './support.js'

const blocks = codeBlocks(page('docker/README.md'))
  .filter(({ runs }) => runs)
  .map(({ code }) => code)

test('there is a line to run, and one with a receiver', () => {
  expect(blocks).toHaveLength(2)
})

test.for(blocks.map((block) => [block.split('\n')[0]!, block] as const))('%s', async ([, block], ctx) => {
  needDocker(ctx)
  const { code, stdout, stderr } = await command(['sh', '-e', '-c', block])
  await command(['sh', '-c', 'docker rm -f receiver; docker network rm spead'])
  expect(code, stdout + stderr).toBe(0)
  expect(stdout).toMatch(
    block.includes('demo')
      ? /heaps lost +0\nheaps corrupt +0, every byte checked/
      : /heaps +1,000\n +incomplete +0\n +missing +0\n +corrupt +0/,
  )
})
