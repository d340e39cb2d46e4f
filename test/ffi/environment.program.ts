/** Prints which libibverbs is taken, which SPEADCAST_VERBS_LIBRARY names as one that there is not, and what errors say of it. */
import { trustedVariable } from '#dist/ffi/environment.js'
import { VerbsLibrary } from '#dist/ffi/verbs/library.js'
import { print } from '../support/print.js'

const said = (): string => {
  try {
    return `loaded ${VerbsLibrary.load().path}`
  } catch (error) {
    return (error as Error).message
  }
}
print({ value: trustedVariable('SPEADCAST_VERBS_LIBRARY') ?? null, said: said() })
