// Files of rows: JSON lines, the machine first.
import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'

export const readRows = (file) =>
  existsSync(file)
    ? readFileSync(file, 'utf8')
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line))
    : []

/** Fields that must be the same in all parts of a file. The commit may differ, because rows and pages are committed in between. */
const SAME = ['cpu', 'cpus', 'kernel', 'hypervisor', 'mitigations', 'transparentHugePages', 'node', 'koffi', 'gcc', 'sources']
/** Fields that must be the same if both parts have them. */
const SAME_IF_USED = ['spead2', 'numpy', 'python']

/** The fields in which two machine lines differ although they must not. */
export function differences(before, now) {
  const used = SAME_IF_USED.filter((key) => before[key] !== undefined && now[key] !== undefined)
  return [...SAME, ...used].filter((key) => JSON.stringify(before[key]) !== JSON.stringify(now[key]))
}

/**
 * Opens a file to add rows to: fresh, or with `append` behind those it has, which must be of the same machine and sources. Every
 * part begins with its machine line, written before its first row.
 */
export function openRows(file, machine, { append = false } = {}) {
  const rows = append ? readRows(file) : []
  const before = rows.findLast((row) => row.kind === 'machine')
  const other = before ? differences(before, machine) : []
  if (other.length)
    throw new Error(
      `${file} was not measured with this: ${other.map((key) => `${key} was ${JSON.stringify(before[key])}, is ${JSON.stringify(machine[key])}`).join('; ')}`,
    )
  mkdirSync(dirname(file), { recursive: true })
  if (rows.length === 0) writeFileSync(file, '')
  const write = (row) => {
    rows.push(row)
    appendFileSync(file, `${JSON.stringify(row)}\n`)
  }
  let begun = false
  const add = (row) => {
    if (!begun) write(machine)
    begun = true
    write(row)
  }
  return { file, rows, add }
}
