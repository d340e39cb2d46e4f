/** A cpio archive of the kind that Linux takes as initramfs ("newc"). `mode` has the file's type (0o40000 folder, 0o100000 file). */
export function cpio(entries) {
  const parts = []
  const pad = (length) => Buffer.alloc((4 - (length % 4)) % 4)
  const add = ({ path, mode, data = Buffer.alloc(0) }, inode) => {
    const name = Buffer.from(`${path}\0`)
    //           ino, mode, uid, gid, nlink, mtime, size, dev major and minor, rdev major and minor, name's size, checksum
    const fields = [inode, mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, name.length, 0]
    const head = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`)
    parts.push(head, name, pad(head.length + name.length), data, pad(data.length))
  }
  for (const [i, entry] of entries.entries()) add(entry, i + 1)
  add({ path: 'TRAILER!!!', mode: 0 }, 0)
  return Buffer.concat(parts)
}
