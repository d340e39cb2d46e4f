/** Opens streams and receivers of its network namespace while v0 gets IPv6 addresses: QUESTION. Prints what each said. */
import { execFileSync } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { openStream, type SpeadcastError, type StreamOptions } from 'speadcast'
import { openReceiver, type ReceiverOptions } from 'speadcast/receive'
import { localInterfaces } from '#dist/src/net/interface.js'
import { print } from '../support/print.js'

const ip = (command: string) => execFileSync('ip', command.split(' '))
const states = () =>
  localInterfaces()
    .find(({ name }) => name === 'v0')!
    .addresses.map(({ state }) => state)

async function told(open: () => Promise<unknown>): Promise<unknown> {
  try {
    return await open()
  } catch (error) {
    const { code, message } = error as SpeadcastError
    return `${code}: ${message}`
  }
}

const source = (options: Partial<StreamOptions>) =>
  told(async () => {
    const stream = await openStream({ backend: 'udp', thread: 'inline', to: '[fd77::2]:7148', packetSizeBytes: 1024, ...options })
    const { sourceAddress } = stream.stats().states
    await stream.close()
    return sourceAddress
  })

const heard = (options: ReceiverOptions) =>
  told(async () => {
    await (await openReceiver(options)).close()
    return 'open'
  })

/** Replaces the address by one that no packet may come from for a second or two. */
function anew(address: string): void {
  ip('address flush dev v0 scope global')
  ip(`address add ${address}/64 dev v0`)
}

const QUESTIONS = {
  async tentative() {
    anew('fd77::11')
    const before = states().at(-1)
    const byName = await source({ interface: 'v0' })
    anew('fd77::12')
    const byAddress = await source({ interface: 'fd77::12' })
    anew('fd77::13')
    const byRoute = await source({})
    anew('fd77::14')
    const dgram = await source({ backend: 'dgram', interface: 'v0' })
    anew('fd77::15')
    const receiver = await heard({ endpoints: '[fd77::15]:7148' })
    anew('fd77::16')
    const receiverByName = await heard({ endpoints: '[ff15::1]:7148', interface: 'v0' })
    return { before, byName, byAddress, byRoute, dgram, receiver, receiverByName }
  },

  async failed() {
    ip('address add fd77::9/64 dev v0')
    for (let i = 0; i < 300 && states().includes('tentative'); i++) await sleep(20)
    const failed = await source({ interface: 'fd77::9' })
    ip('address add fd77::31/64 dev v0 nodad')
    const order = states()
    const byName = await source({ interface: 'v0' })
    ip('address add fd77::32/64 dev v0 nodad')
    ip('address change fd77::31/64 dev v0 preferred_lft 0')
    return { failed, order, byName, preferred: await source({ interface: 'v0' }) }
  },
}

export type Question = keyof typeof QUESTIONS

print(await QUESTIONS[process.argv[2] as Question]())
