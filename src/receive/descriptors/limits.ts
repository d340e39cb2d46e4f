/**
 * Limits of a received descriptor, besides those of its dtype. Anybody may send one, and a receiver keeps it, so each limit is checked
 * before anything is allocated for what it bounds. Real descriptors are far below them.
 */
/** Item pointers of a descriptor's packet. It needs ten. */
export const MAX_POINTERS = 256
export const MAX_NAME_BYTES = 1024
export const MAX_DESCRIPTION_BYTES = 16384
