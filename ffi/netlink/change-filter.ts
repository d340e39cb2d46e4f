/**
 * A filter for an rtnetlink(7) socket that waits for changes (socket(7), SO_ATTACH_FILTER): the kernel keeps back messages that matter to no
 * packet of the socket's owner, so that they neither wake a thread nor fill the socket's queue. Those are
 *
 * - neighbours that are known: only a neighbour without a MAC keeps packets back;
 * - cached routes (RTM_F_CLONED), of which IPv6 has one for every destination with a path MTU of its own;
 * - routes to elsewhere, by the first 32 bits of their destination: a host may have a million routes that come and go (BGP).
 *
 * The program is classic BPF (Documentation/networking/filter.rst), which reads numbers big-endian; netlink's are little-endian here.
 */
import type { Prefix } from './prefix.js'
import { RTM_NEWNEIGH, RTM_NEWROUTE } from './route.js'

const RTM_DELROUTE = 25
/** Bytes of struct nlmsghdr; struct ndmsg and struct rtmsg stand behind it. */
const BODY = 16
const RTMSG_LEN = 12
const RTA_DST = 1
/** linux/neighbour.h, NUD_INCOMPLETE | NUD_FAILED, and linux/rtnetlink.h, RTM_F_CLONED, as the program reads them. */
const UNRESOLVED = 0x2100
const CLONED = 0x00020000

// linux/bpf_common.h, linux/filter.h
const LOAD = 0x00
const LOAD_WORD = 0x20
const LOAD_HALF = 0x28
const LOAD_BYTE = 0x30
const LOAD_WORD_AT_X = 0x40
const LOAD_KEPT = 0x60
const LOAD_X = 0x01
const KEEP = 0x02
const TO_X = 0x07
const MINUS_X = 0x1c
const XOR = 0xa4
const SHIFT_RIGHT_X = 0x7c
const IF_EQUAL = 0x15
const IF_GREATER = 0x25
const IF_ANY_BIT = 0x45
const RETURN = 0x06
/** SKF_AD_OFF + SKF_AD_NLATTR: A becomes the offset of attribute X, looked for from offset A on; 0 where there is none. */
const FIND_ATTRIBUTE = -0x1000 + 12
const ALL = 0xffffffff

/** Opcode, number, and for a condition where to go on if it holds and if not: labels. */
type Step = readonly [label: string, code: number, k: number, yes?: string, no?: string]

/** struct sock_filter for each instruction: u16 code, u8 jump if true, u8 jump if false, u32 k. */
export function changeFilter({ bits, word }: Prefix): Uint8Array {
  const swapped = (type: number) => type << 8
  const steps: Step[] = [
    ['', LOAD_HALF, 4],
    ['', IF_EQUAL, swapped(RTM_NEWNEIGH), 'neighbour', ''],
    ['', IF_EQUAL, swapped(RTM_NEWROUTE), 'route', ''],
    ['', IF_EQUAL, swapped(RTM_DELROUTE), 'route', 'pass'],
    ['neighbour', LOAD_HALF, BODY + 8],
    ['', IF_ANY_BIT, UNRESOLVED, 'pass', 'drop'],
    ['route', LOAD_WORD, BODY + 8],
    ['', IF_ANY_BIT, CLONED, 'drop', bits === 0 ? 'pass' : ''],
    ['', LOAD_X, RTA_DST],
    ['', LOAD, BODY + RTMSG_LEN],
    ['', LOAD_WORD, FIND_ATTRIBUTE],
    // A default route has no destination.
    ['', IF_EQUAL, 0, 'pass', ''],
    ['', TO_X, 0],
    ['', LOAD_WORD_AT_X, 4],
    ['', KEEP, 0],
    // The prefixes overlap if they begin with the same bits, as many as the shorter of them has.
    ['', LOAD_BYTE, BODY + 1],
    ['', IF_GREATER, bits, '', 'shorter'],
    ['', LOAD, bits],
    ['shorter', TO_X, 0],
    ['', LOAD, 32],
    ['', MINUS_X, 0],
    ['', TO_X, 0],
    ['', LOAD_KEPT, 0],
    ['', XOR, word],
    ['', SHIFT_RIGHT_X, 0],
    ['', IF_EQUAL, 0, 'pass', 'drop'],
    ['pass', RETURN, ALL],
    ['drop', RETURN, 0],
  ]
  const program = new DataView(new ArrayBuffer(steps.length * 8))
  for (const [i, [, code, k, yes = '', no = '']] of steps.entries()) {
    const distance = (label: string) => (label === '' ? 0 : steps.findIndex(([name]) => name === label) - i - 1)
    program.setUint16(i * 8, code, true)
    program.setUint8(i * 8 + 2, distance(yes))
    program.setUint8(i * 8 + 3, distance(no))
    program.setUint32(i * 8 + 4, k, true)
  }
  return new Uint8Array(program.buffer)
}
