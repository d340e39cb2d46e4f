// The grounds: places to send heaps to. All take them at the same address.
import { openBlackHole } from './blackhole.mjs'
import { openNicGround } from './nic.mjs'
import { openVeth } from './veth.mjs'

/** name → opens it. */
export const GROUNDS = {
  blackhole: () => openBlackHole(),
  'blackhole-gso1': () => openBlackHole({ segmentInSoftware: true }),
  veth: () => openVeth(),
  softnic: () => openNicGround(),
}
