/** Every offset, size and constant of ffi/verbs/layout.ts against the installed infiniband/verbs.h and rdma/rdma_cma.h. */
import { existsSync } from 'node:fs'
import { expect, test } from 'vitest'
import { asOn, cCompilers, cValues } from '../support/c-claims.js'
import { need } from '../support/need.js'

const PREAMBLE = `#include <stddef.h>
#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>`

/** Structures are named after their C types; of verbs_context the distances from the ibv_context at its end are meant. */
function claims(layout: object): [what: string, expression: string, ours: number][] {
  const out: [string, string, number][] = []
  for (const [name, value] of Object.entries(layout)) {
    if (typeof value === 'number') out.push([name, name, value])
    else if (Array.isArray(value)) for (const [i, constant] of value.entries()) out.push([constant, constant, i])
    else {
      const type = `struct ${name.toLowerCase()}`
      const context = name === 'VERBS_CONTEXT' ? `(long long)offsetof(${type}, context)` : '0'
      for (const [field, offset] of Object.entries(value as Record<string, number>)) {
        const expression = field === 'size' ? `sizeof(${type})` : `(long long)offsetof(${type}, ${field}) - ${context}`
        out.push([`${name}.${field}`, expression, offset])
      }
    }
  }
  return out
}

test.for(['x64', 'arm64'] as const)('verbs layouts and constants are those of the installed headers, on %s', async (arch, ctx) => {
  need(ctx, existsSync('/usr/include/infiniband/verbs.h'), 'needs the headers of libibverbs (package libibverbs-dev)')
  need(ctx, existsSync('/usr/include/rdma/rdma_cma.h'), 'needs the headers of librdmacm (package librdmacm-dev)')
  const { compilers, missing } = cCompilers()
  const compiler = compilers.find((one) => one.arch === arch)
  need(ctx, compiler, missing || `this machine has no compiler for ${arch}`)
  const ours = claims(await asOn(arch, () => import('#dist/ffi/verbs/layout.js')))
  const theirs = cValues(
    compiler,
    PREAMBLE,
    ours.map(([, expression]) => expression),
  )
  expect(Object.fromEntries(ours.map(([what, , value]) => [what, value]))).toEqual(
    Object.fromEntries(ours.map(([what], i) => [what, theirs[i]])),
  )
  expect(Object.fromEntries(ours.map(([what, , value]) => [what, value]))['IBV_CONTEXT.abi_compat']).toBe(
    { x64: 320, arm64: 328 }[arch],
  )
  console.log(`verbs layout: ${ours.length} offsets, sizes and constants agree with the headers, by ${compiler.name}`)
  expect(ours.length).toBeGreaterThan(100)
})
