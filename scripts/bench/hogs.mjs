// Busy neighbours of a run: endless loops at ordinary priority, one process each (beside.c).
import { mkdirSync } from 'node:fs'
import { $ } from 'zx'
import { at } from '../lib/process.mjs'

const BESIDE = at('.cache/bench/beside')

export async function compileBeside() {
  mkdirSync(at('.cache/bench'), { recursive: true })
  await $`gcc -O2 -o ${BESIDE} ${at('scripts/bench/beside.c')}`
}

/** The command that runs a command beside `hogs` loops. */
export const beside = (hogs, command) => (hogs ? [BESIDE, String(hogs), ...command] : command)
