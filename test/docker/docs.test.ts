// The command lines of docker/README.md (```sh run) are run as they stand there.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { command, needDocker, ROOT } from './support.js'

const text = readFileSync(join(ROOT, 'docker/README.md'), 'utf8')
const blocks = [...text.matchAll(/^```sh run\n(.*?)^```/gms)].map(([, block]) => block!)

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
