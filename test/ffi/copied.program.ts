/** Takes all descriptors and prints whether an installed file of the package counts as a copy then. */
import { closeSync, openSync } from 'node:fs'
import { isCopy } from '#dist/ffi/copied.js'
import { print } from '../support/print.js'

const installed = import.meta.resolve('#dist/ffi/copied.js')
const taken: number[] = []
let code = ''
while (code === '')
  try {
    taken.push(openSync('/dev/null', 'r'))
  } catch (error) {
    code = (error as NodeJS.ErrnoException).code!
  }
const copy = isCopy(installed)
closeSync(taken.pop()!)
print({ code, copy })
