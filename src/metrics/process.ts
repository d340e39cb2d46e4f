/** The metrics of this process: prom-client's own, which every dashboard for Node.js knows. */
/// <reference path="./prom-client-parts.d.ts" />
import type { Registry } from 'prom-client'
import heapSize from 'prom-client/lib/metrics/heapSizeAndUsed.js'
import memory from 'prom-client/lib/metrics/osMemoryHeap.js'
import mostDescriptors from 'prom-client/lib/metrics/processMaxFileDescriptors.js'
import descriptors from 'prom-client/lib/metrics/processOpenFileDescriptors.js'
import startTime from 'prom-client/lib/metrics/processStartTime.js'

/**
 * Without those of processor time, whose file loads OpenTelemetry's API, and of the event loop's lag, which sample it by a timer; rows of the table
 * stand in for them.
 */
export function collectProcess(registry: Registry): void {
  for (const collect of [startTime, memory, descriptors, mostDescriptors, heapSize]) collect(registry)
}
