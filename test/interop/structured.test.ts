// Structured items that the real spead2 sends: their bytes, and their numbers between the brackets that numpy writes.
import { spawnSync } from 'node:child_process'
import { expect, onTestFinished, test } from 'vitest'
import { openReceiver, valueText } from '#dist/src/receive/index.js'
import { freePort } from '../support/cli.js'
import { need } from '../support/need.js'
import { peerScript, spead2Python } from '../support/peer.js'

const CASES = `[
  ("complex", [("re", "<i2"), ("im", "<i2")], (4,)),
  ("swapped", [("re", ">i2"), ("im", ">u4")], (3,)),
  ("one", [("a", "u1")], ()),
  ("nested", [("at", [("x", "<i4"), ("y", "<i4")]), ("flags", "u1", (2,))], (2, 2)),
  ("padded", {"names": ["a", "b"], "formats": ["u1", "<i4"], "offsets": [0, 4], "itemsize": 12}, (3,)),
  ("floats", [("f", "<f4"), ("d", ">f8")], (2,)),
]`

test('structured arrays of spead2 come as it has them, byte for byte and number for number', async (ctx) => {
  const python = spead2Python()
  need(ctx, python, 'needs spead2 4.5.1, from the venv that npm test makes')
  const port = await freePort()
  const receiver = await openReceiver({ endpoints: `127.0.0.1:${port}`, timeoutSeconds: 20 })
  onTestFinished(() => void receiver.close())
  const { stdout, stderr } = spawnSync(python, [peerScript('spead2_structured.py'), `${port}`, CASES], {
    encoding: 'utf8',
    timeout: 20_000,
    killSignal: 'SIGKILL',
  })
  expect(stderr).toBe('')
  const got: unknown[] = []
  for await (const heap of receiver)
    for (const item of heap.items.values()) {
      const text = valueText(item)
      got.push({
        name: item.name,
        bytes: Buffer.from(item.bytes).toString('hex'),
        numbers: text.match(/[^\s,()[\]]+/g),
        brackets: text.replace(/[^()[\]]/g, ''),
      })
    }
  expect(got).toEqual(JSON.parse(stdout))
})
