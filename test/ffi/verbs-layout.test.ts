/** Every offset, size and constant of ffi/verbs/layout.ts against the installed infiniband/verbs.h and rdma/rdma_cma.h. */
import { existsSync } from 'node:fs'
import { expect, test } from 'vitest'
import * as layout from '#dist/ffi/verbs/layout.js'
import { cCompiler, cValues } from '../support/c-claims.js'
import { need } from '../support/need.js'

const PREAMBLE = `#include <stddef.h>
#include <infiniband/verbs.h>
#include <rdma/rdma_cma.h>`

/** Structures are named after their C types; of verbs_context the distances from the ibv_context at its end are meant. */
function claims(): [what: string, expression: string, ours: number][] {
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

test('verbs layouts and constants are those of the installed headers', (ctx) => {
  const compiler = cCompiler()
  need(ctx, compiler, 'needs a C compiler (cc, gcc or clang)')
  need(ctx, existsSync('/usr/include/infiniband/verbs.h'), 'needs the headers of libibverbs (package libibverbs-dev)')
  need(ctx, existsSync('/usr/include/rdma/rdma_cma.h'), 'needs the headers of librdmacm (package librdmacm-dev)')
  const all = claims()
  const theirs = cValues(
    compiler,
    PREAMBLE,
    all.map(([, expression]) => expression),
  )
  expect(Object.fromEntries(all.map(([what, , ours]) => [what, ours]))).toEqual(
    Object.fromEntries(all.map(([what], i) => [what, theirs[i]])),
  )
  console.log(`verbs layout: ${all.length} offsets, sizes and constants agree with the headers`)
  expect(all.length).toBeGreaterThan(100)
})
