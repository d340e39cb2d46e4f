/** Prints the device and port that librdmacm finds for each address on the command line, as JSON; null where it finds none. */
import { VerbsLibrary } from '#dist/ffi/verbs/library.js'
import { deviceOfAddress } from '#dist/ffi/verbs/rdmacm.js'
import { parseAddress } from '#dist/src/net/address.js'

const library = VerbsLibrary.load()
const found = process.argv.slice(2).map((address) => deviceOfAddress(library, parseAddress(address)!) ?? null)
console.log(JSON.stringify(found))
