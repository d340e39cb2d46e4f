/** The files of prom-client that the bundle takes; its own declarations are for the whole package. */
declare module 'prom-client/lib/registry.js' {
  import type { Registry } from 'prom-client'

  const registry: typeof Registry
  export default registry
}
declare module 'prom-client/lib/metrics/*' {
  import type { Registry } from 'prom-client'

  const collect: (registry: Registry) => void
  export default collect
}
