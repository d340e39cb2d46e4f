/**
 * Counts drops on the interfaces NAMES, one for each HOST that gets TIMES datagrams of 1000 bytes: NAMES HOSTS TIMES. Prints the
 * count and tc's, and whether a look at the links without a descriptor left told what is below. It runs under a limit of
 * descriptors.
 */
import { execFileSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { closeSync, openSync } from 'node:fs'
import { LinkLosses } from '#dist/ffi/netlink/link-losses.js'
import { links } from '#dist/ffi/netlink/route.js'
import { DropCounts } from '#dist/src/backend/udp/drop-counts.js'
import { print } from '../../support/print.js'

const [names, hosts, times] = process.argv.slice(2).map((text) => JSON.parse(text)) as [string[], string[], number]
const losses = new LinkLosses()
const counts = new DropCounts(losses)
const indexes = names.map((name) => links().find((link) => link.name === name)!.index)
const dropsByTc = () =>
  (JSON.parse(execFileSync('tc', ['-s', '-json', 'qdisc', 'show', 'dev', 'v0'], { encoding: 'utf8' })) as { drops: number }[])[0]!
    .drops

function starved(): boolean {
  const held: number[] = []
  try {
    for (;;) held.push(openSync('/dev/null', 'r'))
  } catch {
    // none is left
  }
  const told = counts.follow(indexes)
  for (const fd of held) closeSync(fd)
  return told
}

const rows: [ours: number, theirs: number][] = []
const told: boolean[] = []
// A second look at the links finds the same counters again.
for (let round = 0; round < 2; round++) {
  told.push(starved(), counts.follow(indexes))
  counts.read()
  const before = dropsByTc()
  const socket = createSocket('udp4')
  for (const host of hosts)
    for (let i = 0; i < times; i++) await new Promise((done) => socket.send(Buffer.alloc(1000), 9, host, done))
  socket.close()
  counts.read()
  rows.push([counts.lost, dropsByTc() - before])
}
print({ rows, told })
