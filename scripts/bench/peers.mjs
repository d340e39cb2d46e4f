// Programs that the user adds to a run: --peer 'name=command'.

const NAME = /^[A-Za-z][\w.-]*$/

/** @returns `{ name, command }`; throws with what is wrong */
export function parsePeer(text, taken) {
  const [, name, command] = /^([^=]*)=(.*)$/s.exec(text) ?? []
  if (!command?.trim()) throw new Error(`--peer ${text}: it is name=command`)
  if (!NAME.test(name)) throw new Error(`--peer ${text}: ${name || 'nothing'} is not a name of letters, digits, . _ and -`)
  if (taken.includes(name)) throw new Error(`--peer ${text}: there is a ${name} already`)
  return { name, command }
}

/** What a command may ask for in braces; its environment has the same as HEAP_SIZE and so on. */
const wordsOf = ({ heapSizeBytes, packetSizeBytes, batches, heaps, address, port }) => ({
  heapSize: heapSizeBytes,
  packetSize: packetSizeBytes,
  batches,
  heaps,
  address,
  port,
})

/** The shell's text and environment of one run; throws on a word in braces that is not one of ours. */
export function peerCommand(command, point) {
  const words = wordsOf(point)
  const text = command.replace(/\{(\w+)\}/g, (_, word) => {
    if (!Object.hasOwn(words, word)) throw new Error(`--peer: {${word}} is not one of ${Object.keys(words).join(', ')}`)
    return words[word]
  })
  const variable = (word) => word.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()
  return { text, env: Object.fromEntries(Object.entries(words).map(([word, value]) => [variable(word), String(value)])) }
}

const NUMBER = '\\d+(?:\\.\\d+)?(?:[eE][+-]?\\d+)?'

/** Bytes a second of a peer's output: its last `… MB/s`, else its last line if that is a number. MB is 10⁶ bytes. */
export function peerRate(stdout) {
  const named = [...stdout.matchAll(new RegExp(`(${NUMBER})\\s*MB/s`, 'g'))].at(-1)?.[1]
  const bare = new RegExp(`^${NUMBER}$`).exec(stdout.trim().split('\n').at(-1).trim())?.[0]
  const megabytes = Number(named ?? bare)
  if (!(megabytes > 0)) throw new Error(`a peer must end with its rate in MB/s; it printed ${JSON.stringify(stdout.slice(-200))}`)
  return megabytes * 1e6
}
