// The second host, which sees what the first one's kernel does not: a capture there, by ssh, by any command, or by hand.
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

/** Time after the last frame was sent, before a capture that got fewer frames is ended. */
const QUIET_SECONDS = 3

/** The reason why nothing can be captured; empty if frames can. */
export function secondHostMissing(options) {
  if (options['second-host'] || options['capture-command'] || options['by-hand']) return ''
  return 'no second host: give --second-host USER@HOST (ssh), --capture-command, or --by-hand'
}

const filterOf = (port) => `udp and dst port ${port}`
const tcpdump = (device, port, count, seconds) =>
  `timeout ${seconds} tcpdump -i ${device} -U -s 0 -B 65536 -c ${count} -w - '${filterOf(port)}'`

/**
 * Captures `count` frames to `port` while `body` sends them; fewer when they do not come in time.
 * @returns {Promise<{ result: unknown, pcap: Buffer, dropped: number }>} what body resolved with, the capture, and how many frames
 * tcpdump says it missed
 */
export async function captureWhile(options, { port, count, seconds }, body) {
  const limit = Math.ceil(seconds + QUIET_SECONDS + 60)
  const device = options['second-interface']
  if (options['by-hand']) return byHand(tcpdump(device, port, count, limit + 600), body)
  const child = options['capture-command']
    ? spawn('sh', ['-c', options['capture-command']], {
        env: { ...process.env, COUNT: String(count), SECONDS: String(limit), FILTER: filterOf(port) },
        stdio: ['ignore', 'pipe', 'pipe'],
      })
    : spawn('ssh', ['-o', 'BatchMode=yes', options['second-host'], tcpdump(device, port, count, limit)], {
        stdio: ['ignore', 'pipe', 'pipe'],
      })
  const parts = []
  let complaints = ''
  child.stdout.on('data', (part) => parts.push(part))
  const ended = new Promise((resolve) => {
    child.on('error', (error) => {
      complaints += error.message
      resolve()
    })
    child.on('close', resolve)
  })
  const listening = new Promise((resolve) => {
    child.stderr.setEncoding('utf8').on('data', (text) => {
      complaints += text
      if (complaints.includes('listening on')) resolve(true)
    })
    ended.then(() => resolve(false))
  })
  if (!(await listening)) throw new Error(`the capture did not start: ${complaints.trim()}`)
  try {
    const result = await body()
    await Promise.race([ended, sleep(QUIET_SECONDS * 1000)])
    // Ends the capture, or only what brings it here: then it ends there by its own timeout, and the pipe stays open until it does.
    child.kill()
    await Promise.race([ended, sleep(1000)])
    child.stdout.destroy()
    child.stderr.destroy()
    const [, dropped = 0] = /(\d+) packets dropped by kernel/.exec(complaints) ?? []
    return { result, pcap: Buffer.concat(parts), dropped: Number(dropped) }
  } finally {
    child.kill()
  }
}

async function byHand(command, body) {
  const input = createInterface({ input: process.stdin })
  // Lines that come before they are asked for are kept.
  const lines = input[Symbol.asyncIterator]()
  const ask = async (text) => {
    process.stderr.write(text)
    const { value, done } = await lines.next()
    if (done) throw new Error('standard input ended before the capture was brought')
    return value.trim()
  }
  try {
    await ask(`\nOn the second host, as root:\n\n  ${command} > acceptance.pcap\n\nEnter when it listens: `)
    const result = await body()
    const file = await ask('End it there (Ctrl-C) and bring acceptance.pcap here. Its path: ')
    return { result, pcap: readFileSync(file), dropped: 0 }
  } finally {
    input.close()
  }
}
