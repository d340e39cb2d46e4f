// Several senders of one stream from one command line: heap cnts, endpoints and whatever else follows from the index of each.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { withIndex } from '#dist/src/cli/common/index-words.js'
import type { SendFlags } from '#dist/src/cli/send/flags.js'
import { dealt, withShare } from '#dist/src/cli/send/fleet.js'
import { datagramsOf, pointersOf, run } from '../support/cli.js'

const folder = mkdtempSync(join(tmpdir(), 'speadcast-fleet-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const HEAP_CNT = 1

describe('words with the index', () => {
  test.for([
    ['{index}', '5'],
    ['239.10.0.{index+1}:7148', '239.10.0.6:7148'],
    ['239.10.{index*8}.0+7:{index*10+7000}', '239.10.40.0+7:7050'],
    ['{index%4},{index%4*2+1}', '1,3'],
    ['--pcap=heaps-{index}.pcap', '--pcap=heaps-5.pcap'],
    ['{host}', '{host}'],
    ["{'names':['a']}", "{'names':['a']}"],
  ])('%s', ([word, filled]) => {
    expect(withIndex(['send', word!, '--index', '5'], {})).toEqual(['send', filled, '--index', '5'])
    expect(withIndex(['send', word!, '--index=5'], { SPEADCAST_INDEX: '9' })).toEqual(['send', filled, '--index=5'])
    expect(withIndex(['send', word!], { SPEADCAST_INDEX: 'senders-5' })).toEqual(['send', filled])
  })

  test.for(['{index-1}', '{index', '{index*}', '{index+1*2}', '{index+x}', '{index%0}', '{indexes}'])('%s is refused', (word) => {
    expect(() => withIndex(['send', word], { SPEADCAST_INDEX: '5' })).toThrow(
      expect.objectContaining({ code: 'ERR_SPEADCAST_CONFIG', message: expect.stringContaining(`'${word}': write {index}, `) }),
    )
  })

  test.for([{}, { SPEADCAST_INDEX: '' }, { SPEADCAST_INDEX: 'host' }, { SPEADCAST_INDEX: '-1' }])(
    'need an index: %j',
    (environment) => {
      expect(() => withIndex(['send', 'a{index}:1'], environment)).toThrow(
        /'a\{index\}:1' has the sender's index in it; give --index I/,
      )
      expect(withIndex(['send', 'a:1'], environment)).toEqual(['send', 'a:1'])
    },
  )
})

describe('shares', () => {
  const flags = (own: Partial<SendFlags>) => ({ firstCnt: 1, cntStep: 1, ...own }) as SendFlags

  test.for([
    [{}, [1, 5, 2, 5, 4, 5]],
    [{ firstCnt: 0 }, [0, 5, 1, 5, 3, 5]],
    [{ firstCnt: 100, cntStep: 3 }, [100, 15, 103, 15, 109, 15]],
    [{ firstCnt: 2n ** 60n }, [2n ** 60n, 5, 2n ** 60n + 1n, 5, 2n ** 60n + 3n, 5]],
  ] as const)('of heap cnts, case %#', ([own, expected]) => {
    const shares = [0, 1, 3].flatMap((index) => {
      const { firstCnt, cntStep } = withShare(flags({ ...own, index, of: 5 }))
      return [firstCnt, cntStep]
    })
    expect(shares).toEqual(expected)
  })

  test('of the heap cnts of descriptors', () => {
    const share = withShare(flags({ index: 2, of: 4, descriptorFirstCnt: 1000 }))
    expect(share).toMatchObject({ firstCnt: 3, cntStep: 4, descriptorFirstCnt: 1002, descriptorCntStep: 4 })
  })

  test('of endpoints', () => {
    const of = (endpoints: string[], index: number, of: number) => dealt(endpoints, flags({ index, of, dealEndpoints: true }))
    const five = ['a:1,b:1', 'c:1', 'd:1', 'e:1']
    expect([0, 1, 2].map((index) => of(five, index, 3))).toEqual([['a:1', 'd:1'], ['b:1', 'e:1'], ['c:1']])
    expect([0, 1, 2, 3].map((index) => of(['a:1,b:1'], index, 4))).toEqual([['a:1'], ['b:1'], ['a:1'], ['b:1']])
    expect(dealt(five, flags({ index: 1, of: 3 }))).toEqual(five)
    expect(() => of(['239.0.0.0+15:1'], 0, 4)).toThrow(
      /--deal-endpoints deals endpoints one by one, and 239\.0\.0\.0\+15:1 is several/,
    )
  })

  test.for([
    [{ index: 3 }, /^--index 3 says which sender this is; say of how many with --of N/],
    [{ of: 3 }, /^--of 3 says how many senders there are; say which one this is with --index I/],
    [{ index: 3, of: 3 }, /^--index 3: with --of 3 it is from 0 to 2$/],
    [{ dealEndpoints: true }, /^--deal-endpoints needs --index I and --of N$/],
  ] as const)('of %j are refused', ([own, message]) => {
    expect(() => withShare(flags(own as Partial<SendFlags>))).toThrow(
      expect.objectContaining({ code: 'ERR_SPEADCAST_CONFIG', message: expect.stringMatching(message) }),
    )
  })
})

const send = async (args: readonly string[], environment: Record<string, string>) => {
  const { code, stderr } = await run(['send', ...args], undefined, environment)
  return { code, stderr }
}

describe('the command', () => {
  test.for(['0', 'senders-1', '2'])('with SPEADCAST_INDEX=%s of 3', async (SPEADCAST_INDEX) => {
    const index = Number(SPEADCAST_INDEX.at(-1))
    const path = join(folder, 'heaps')
    const args = ['10.0.0.{index+5}:7148', '-n', '4', '-H', '64', '--no-stop', '--pcap', `${path}-{index}`]
    expect(await send(args, { SPEADCAST_INDEX, SPEADCAST_SENDERS: '3' })).toEqual({ code: 0, stderr: '' })
    const frames = datagramsOf(readFileSync(`${path}-${index}`))
    expect(new Set(frames.map(({ to }) => to))).toEqual(new Set([`10.0.0.${index + 5}:7148`]))
    const cnts = frames.map(({ payload }) => pointersOf(payload).find(({ id }) => id === HEAP_CNT)!.value)
    // The descriptors take the first.
    expect(cnts).toEqual([1, 4, 7, 10, 13].map((cnt) => cnt + index))
  })

  test('with empty variables is alone, and with wrong ones refused', async () => {
    const args = ['10.0.0.5:7148', '-n', '1', '-H', '64', '--backend', 'memory']
    expect(await send(args, { SPEADCAST_INDEX: '', SPEADCAST_SENDERS: '' })).toEqual({ code: 0, stderr: '' })
    const { code, stderr } = await send(args, { SPEADCAST_INDEX: 'one', SPEADCAST_SENDERS: '2' })
    expect(code).toBe(2)
    expect(stderr).toMatch(
      /'one' from env 'SPEADCAST_INDEX' is invalid\. It must be a whole number from 0 up, or a name that ends in one/,
    )
  })
})
