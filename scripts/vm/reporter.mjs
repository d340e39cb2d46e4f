// Reporter of the guest's tests: one line each, why one failed or was skipped, and the counts for the host. A file that ran no test, or
// ended before its tests did, is a failure.
import { writeFileSync } from 'node:fs'
import { basename } from 'node:path'

const counts = { passed: 0, failed: 0, skipped: 0 }

const indent = (text) => text.replace(/^/gm, '    ')

function line({ type, data }) {
  if (type === 'test:stdout' || type === 'test:stderr') return data.message
  if (type !== 'test:pass' && type !== 'test:fail') return ''
  const { name, file = '', skip, todo, details } = data
  if (details?.type === 'suite' && type === 'test:pass') return ''
  const where = `${basename(file).replace(/\.js$/, '')} > ${name}`
  const took = details?.duration_ms === undefined ? '' : ` ${Math.round(details.duration_ms)} ms`
  if (skip !== undefined || todo !== undefined) {
    counts.skipped += 1
    return ` - ${where}: skipped, ${skip || todo || 'without a reason'}\n`
  }
  if (type === 'test:pass' && !(file && name.endsWith(basename(file)))) {
    counts.passed += 1
    return ` ✓ ${where}${took}\n`
  }
  counts.failed += 1
  const error = details?.error?.cause ?? details?.error
  const why = type === 'test:pass' ? 'it ran no test' : (error?.stack ?? String(error))
  return ` × ${where}${took}\n${indent(why)}\n`
}

export default async function* report(source) {
  for await (const event of source) yield line(event)
  writeFileSync('/run/vm/counts.json', JSON.stringify(counts))
}
