/** Resolves interfaces of its network namespace: LINK_LOCAL is v0's address, INDEX its number. Prints the answers. */
import type { SpeadcastError } from '#dist/src/errors.js'
import { interfaceOfZone, resolveInterface } from '#dist/src/net/interface.js'
import { print } from '../support/print.js'

function told(...args: Parameters<typeof resolveInterface>) {
  try {
    return resolveInterface(...args)
  } catch (error) {
    const { code, message } = error as SpeadcastError
    return `${code}: ${message}`
  }
}

const [linkLocal, index] = process.argv.slice(2) as [string, string]
print({
  name4: told('v0', 4),
  name6: told('v0', 6),
  address4: told('10.77.0.1', 4),
  address6: told('fd77::1', 6),
  linkLocal: resolveInterface(linkLocal, 6).name,
  zone: resolveInterface(`${linkLocal}%v0`, 6).name,
  otherZone: told(`${linkLocal}%lo`, 6),
  lo: told('lo', 4),
  lo6: resolveInterface('lo', 6).address,
  index: interfaceOfZone('v0').index,
  byIndex: interfaceOfZone(index).index,
  none: told('eth9', 4),
  noneAddress: told('10.1.1.1', 4),
  v4for6: told('10.77.0.1', 6),
  v6for4: told('fd77::1', 4),
  no4: told('only6', 4),
  no4address: told('fd88::1', 4),
  down: told('dark', 4),
  empty: told('', 4),
})
