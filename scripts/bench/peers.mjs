// Programs that the user adds to a run: --peer 'name=command'.

const NAME = /^[A-Za-z][\w.-]*$/

/** name in a command's braces → name of the variable in its environment. */
const WORDS = {
  heapSize: { variable: 'HEAP_SIZE', of: (point) => point.heapSizeBytes },
  packetSize: { variable: 'PACKET_SIZE', of: (point) => point.packetSizeBytes },
  batches: { variable: 'BATCHES', of: (point) => point.batches },
  heaps: { variable: 'HEAPS', of: (point) => point.heaps },
  address: { variable: 'ADDRESS', of: (point) => point.address },
  port: { variable: 'PORT', of: (point) => point.port },
}
const WORD = /\{(\w+)\}/g

/** @returns `{ name, command }`; throws with what is wrong */
export function parsePeer(text, taken) {
  const [, name, command] = /^([^=]*)=(.*)$/s.exec(text) ?? []
  if (!command?.trim()) throw new Error(`--peer ${text}: it is name=command`)
  if (!NAME.test(name)) throw new Error(`--peer ${text}: ${name || 'nothing'} is not a name of letters, digits, . _ and -`)
  if (taken.includes(name)) throw new Error(`--peer ${text}: there is a ${name} already`)
  const unknown = [...command.matchAll(WORD)].map(([, word]) => word).find((word) => !Object.hasOwn(WORDS, word))
  if (unknown) throw new Error(`--peer ${text}: {${unknown}} is not one of ${Object.keys(WORDS).join(', ')}`)
  return { name, command }
}

/** The shell's text and environment of one run. */
export function peerCommand(command, point) {
  return {
    text: command.replace(WORD, (_, word) => WORDS[word].of(point)),
    env: Object.fromEntries(Object.values(WORDS).map(({ variable, of }) => [variable, String(of(point))])),
  }
}

/** Whether the command asks how many heaps to send. */
export const heedsHeaps = (command) => /\{heaps\}|\bHEAPS\b/.test(command)

/** Not the end of a longer one: 1,234.5 must not read as 234.5. */
const NUMBER = '(?<![\\d.,])\\d+(?:\\.\\d+)?(?:[eE][+-]?\\d+)?'

/** Bytes a second of a peer's output: its last line if that is a number, else its last `… MB/s`. MB is 10⁶ bytes. */
export function peerRate(stdout) {
  const bare = new RegExp(`^${NUMBER}$`).exec(stdout.trim().split('\n').at(-1).trim())?.[0]
  const named = [...stdout.matchAll(new RegExp(`(${NUMBER})\\s*MB/s`, 'g'))].at(-1)?.[1]
  const megabytes = Number(bare ?? named)
  if (!(megabytes > 0)) throw new Error(`a peer must end with its rate in MB/s; it printed ${JSON.stringify(stdout.slice(-200))}`)
  return megabytes * 1e6
}
