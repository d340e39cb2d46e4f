/** RFC 1112: 01:00:5e and the low 23 bits of the group. */
export function multicastMac(group) {
  const [a, b, c, d] = group.split('.').map(Number)
  if (!(a >= 224 && a <= 239)) throw new Error(`${group} is no IPv4 multicast group`)
  return Buffer.from([0x01, 0x00, 0x5e, b & 0x7f, c, d])
}
