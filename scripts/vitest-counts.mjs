import { writeFileSync } from 'node:fs'

/**
 * A vitest reporter that writes `{ passed, failed, skipped }` to the file $SPEADCAST_COUNTS. What fails without being a test (a
 * file that does not load, a hook, an unhandled error) counts as one failure each, and so does a test that never finished.
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
