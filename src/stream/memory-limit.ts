/** The memory that a program may take for batches: for the adapters, which know nothing below the stream. */
export { memoryLimitBytes } from '../../ffi/memory/budget.js'
