import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Child processes, not threads: what is tested loads native code, starts workers and changes network namespaces.
    pool: 'forks',
    maxWorkers: 2,
    expect: { requireAssertions: true },
    allowOnly: false,
    // Shows why a test was skipped.
    reporters: ['verbose'],
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
})
