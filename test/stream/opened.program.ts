/** Opens a stream of OPTIONS. Prints its states, or the error. */
import { openStream, type SpeadcastError } from 'speadcast'
import { print } from '../support/print.js'

try {
  await using stream = await openStream(JSON.parse(process.argv[2]!))
  print({ states: stream.stats().states })
} catch (error) {
  const { code, message } = error as SpeadcastError
  print({ error: `${code} ${message}` })
}
