import { writeFileSync } from 'node:fs'

/**
 * A vitest reporter that writes `{ passed, failed, skipped }` to the file $SPEADCAST_COUNTS. A file
 * that does not load, a failed hook, an unhandled error and a test that never finished count as one failure each.
 */
export default class Counts {
  onTestRunEnd(modules, unhandledErrors) {
    const counts = { passed: 0, failed: unhandledErrors.length, skipped: 0 }
    for (const module of modules) {
      counts.failed += module.errors().length
      for (const suite of module.children.allSuites()) counts.failed += suite.errors().length
      for (const test of module.children.allTests()) {
        const { state } = test.result()
        counts[state === 'pending' ? 'failed' : state]++
      }
    }
    if (process.env.SPEADCAST_COUNTS) writeFileSync(process.env.SPEADCAST_COUNTS, JSON.stringify(counts))
  }
}
