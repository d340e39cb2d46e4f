/** Loaded before a program (`--import`): koffi has no binary for this machine, whose platform is PLATFORM of the environment. */
import Module from 'node:module'

const loader = Module as unknown as { _load(request: string, ...rest: unknown[]): unknown }
const load = loader._load
loader._load = function (request, ...rest) {
  if (request === 'koffi') throw new Error('no koffi binary for this platform (planted by the test)')
  return load.call(this, request, ...rest)
}
if (process.env.PLATFORM) Object.defineProperty(process, 'platform', { value: process.env.PLATFORM })
