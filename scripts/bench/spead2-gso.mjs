// spead2 as fast as it can be: the wheel on PyPI (manylinux_2_28) is built against a glibc whose headers lack UDP_SEGMENT, so its
// segmentation offload is compiled out and it sends packet by packet (no setsockopt(UDP_SEGMENT) in its strace; a third of the rate
// at 8 KiB heaps, a tenth at 256 B). Built here from the same release's source, it has it. Beating the wheel alone would prove little.
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { $ } from 'zx'
import { at, say } from '../lib/process.mjs'

const VERSION = '4.5.1'
const DIRECTORY = at('.cache/bench/spead2-gso')
const STAMP = join(DIRECTORY, '.stamp')
const SYSROOT = at('.cache/bench/sysroot')

/**
 * The folder to put into PYTHONPATH. Builds it once, in about three minutes, with pip of the tests' environment; Boost's and
 * libdivide's headers are unpacked beside it from Debian's packages, nothing is installed.
 */
export async function spead2WithGso(python) {
  if (existsSync(STAMP)) return DIRECTORY
  say(`building spead2 ${VERSION} from source, with segmentation offload (once, about three minutes)`)
  for (const directory of [DIRECTORY, SYSROOT]) rmSync(directory, { recursive: true, force: true })
  mkdirSync(SYSROOT, { recursive: true })
  const shell = $({ cwd: SYSROOT, quiet: true })
  // Debian calls the newest Boost by its version; meson asks for one library file beside the headers, though none is linked.
  const depends = (await shell`apt-cache depends --no-suggests libboost-dev libboost-system-dev`).stdout
  const packages = [...depends.matchAll(/Depends: (libboost\S*-dev)/g)].map((match) => match[1])
  await shell`apt-get download ${packages} libdivide-dev`
  await shell`for package in *.deb; do dpkg -x $package .; done`
  const machine = join(SYSROOT, 'meson.ini')
  const libraries = (await shell`dirname $(find usr/lib -name libboost_system.a | head -n 1)`).stdout.trim()
  writeFileSync(
    machine,
    `[properties]\nboost_includedir = '${join(SYSROOT, 'usr/include')}'\nboost_librarydir = '${join(SYSROOT, libraries)}'\n`,
  )
  const env = { ...process.env, CPATH: join(SYSROOT, 'usr/include') }
  const options = ['--quiet', '--no-deps', '--no-cache-dir', '--no-binary', 'spead2', '--target', DIRECTORY]
  await $({ env, quiet: true })`${python} -m pip install ${options} -Csetup-args=--native-file=${machine} spead2==${VERSION}`
  writeFileSync(STAMP, VERSION)
  return DIRECTORY
}
