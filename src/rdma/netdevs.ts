/**
 * The network interface that is a port of an RDMA device, where no GID tells it: ConnectX-3, and ports in switchdev mode, have ports
 * without GIDs. Linux only, cold.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { NativeError } from '../../ffi/native-error.js'
import { portInterfaces } from '../../ffi/netlink/rdma.js'
import type { Link } from '../../ffi/netlink/route.js'
import { lackOf } from '../errors.js'

const SYSFS = '/sys/class/infiniband'

/**
 * Asks, in this order, the kernel's RDMA netlink (Linux 4.17), the device's GID table in sysfs (which kernels before 5.10 tell in no
 * other way), and the interfaces of the device's PCI function. Two ports may share a function: `dev_port` counts them from 0.
 */
export function interfacesOfPort(device: string, port: number, all: readonly Link[]): Link[] {
  const index = toldByKernel(device, port)
  const told = all.filter((link) => link.index === index)
  if (told.length > 0) return told
  const names = new Set(gidInterfaces(device, port) ?? functionInterfaces(device, port))
  return all.filter(({ name }) => names.has(name))
}

function toldByKernel(device: string, port: number): number | undefined {
  try {
    return portInterfaces(device).get(port)
  } catch (error) {
    if (!(error instanceof NativeError) || lackOf(error)) throw error
    return undefined // a kernel without RDMA netlink, or a sandbox that forbids it
  }
}

function gidInterfaces(device: string, port: number): string[] | undefined {
  const folder = `${SYSFS}/${device}/ports/${port}/gid_attrs/ndevs`
  // An empty entry of the table cannot be read.
  const names = filesOf(folder).flatMap((file) => read(`${folder}/${file}`) ?? [])
  return names.length > 0 ? names : undefined
}

function functionInterfaces(device: string, port: number): string[] {
  const folder = `${SYSFS}/${device}/device/net`
  const names = filesOf(folder)
  if (names.length < 2) return names
  return names.filter((name) => read(`${folder}/${name}/dev_port`) === String(port - 1))
}

/** None where there is no folder. @throws NativeError where it cannot be read */
function filesOf(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch (error) {
    const { code = '', errno = 0 } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ENODEV') return []
    throw new NativeError('readdir', Math.abs(errno), folder)
  }
}

function read(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8').trim()
  } catch {
    return undefined
  }
}
