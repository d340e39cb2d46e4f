// Two network namespaces with a veth pair between them, and a receiver that drains its socket: what sending costs when somebody
// takes the packets. Sender and receiver share the cores, and veth copies what is lent to the kernel.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { $ } from 'zx'
import { at } from '../lib/process.mjs'
import { ADDRESS, MTU, PORT } from './blackhole.mjs'
import { openNamespace } from './namespace.mjs'

const DRAIN = at('.cache/bench/drain')

/** Makes two namespaces with v0 in the one and v1, which has ADDRESS, in the other. Their maker calls close(). Needs root. */
export async function openPair() {
  const sender = await openNamespace()
  let receiver
  const close = () => {
    sender.close()
    receiver?.close()
  }
  try {
    receiver = await openNamespace('-to')
    await sender.ip('link', 'add', 'v0', 'mtu', MTU, 'type', 'veth', 'peer', 'name', 'v1', 'netns', receiver.name, 'mtu', MTU)
    await sender.ip('addr', 'add', '10.99.0.1/24', 'dev', 'v0')
    await receiver.ip('addr', 'add', `${ADDRESS}/24`, 'dev', 'v1')
    await sender.ip('link', 'set', 'v0', 'up')
    await receiver.ip('link', 'set', 'v1', 'up')
    // ARP would be counted with the rest.
    const mac = JSON.parse((await receiver.ip('-j', 'link', 'show', 'v1')).stdout)[0].address
    await sender.ip('neigh', 'replace', ADDRESS, 'lladdr', mac, 'dev', 'v0', 'nud', 'permanent')
  } catch (error) {
    close()
    throw error
  }
  return { sender, receiver, close }
}

/** As openBlackHole(). */
export async function openVeth() {
  mkdirSync(at('.cache/bench'), { recursive: true })
  await $`gcc -O2 -o ${DRAIN} ${at('scripts/bench/drain.c')}`.quiet()
  const { sender, receiver, close: closePair } = await openPair()
  let child
  const close = () => {
    child?.kill('SIGKILL')
    closePair()
  }
  return {
    ...sender,
    address: ADDRESS,
    close,
    /** Packets that the sender's end took so far, and those that the other end had no room for. A GSO message is one packet. */
    async counters() {
      const { tx } = await sender.statistics('v0')
      return { packets: tx.packets, bytes: tx.bytes, dropped: tx.dropped }
    },
    /** Starts a receiver. The function returned stops it once its socket is empty, and returns its counts. */
    async receive() {
      const [command, ...args] = [...receiver.prefix, DRAIN, String(PORT)]
      child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] })
      const closed = once(child, 'close')
      const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
      if ((await lines.next()).value !== 'ready') throw new Error('the receiver did not start')
      return async () => {
        child.stdin.end()
        const row = JSON.parse((await lines.next()).value)
        await closed
        child = undefined
        return row
      }
    },
  }
}
