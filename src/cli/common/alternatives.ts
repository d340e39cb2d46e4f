/** Says which backends can send where a backend that was asked for by name cannot. */
import { BackendRefused, SpeadcastError } from '../../errors.js'
import type { TransportFlags } from './transport-options.js'

/** @param error of opening a stream @returns it, with what else can send there where a backend was refused */
export async function withAlternatives(
  error: unknown,
  to: readonly string[],
  flags: Pick<TransportFlags, 'backend' | 'interface'>,
): Promise<unknown> {
  if (!(error instanceof SpeadcastError) || error.code !== 'ERR_SPEADCAST_BACKEND' || flags.backend === 'auto') return error
  const { explainBackends } = await import('../../devices/index.js')
  const report = await explainBackends(to, flags.interface === undefined ? {} : { interface: flags.interface }).catch(
    () => undefined,
  )
  if (!report?.sends) return error
  const others = report.backends.filter(({ backend, works }) => works && backend !== flags.backend && backend !== 'rdma-ud')
  if (others.length === 0) return error
  const names = others.map(({ backend }) => `--backend ${backend}`).join(' and ')
  const doctor = `speadcast doctor ${to.join(' ')}${flags.interface === undefined ? '' : ` --interface ${flags.interface}`}`
  const can = `${names} can send there: leave --backend out, or see \`${doctor}\``
  const known = error instanceof BackendRefused ? { cause: error.cause } : { cause: error }
  return new SpeadcastError(error.code, `${error.message}; ${can}`, known)
}
