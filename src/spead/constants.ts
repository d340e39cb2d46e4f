/** SPEAD protocol constants (SPEAD protocol document, sections 8.1 and 8.2; spead2's common_defines.h agrees). */
export const MAGIC = 0x53
export const VERSION = 4
/** Bytes of the packet header, and of every item pointer. */
export const HEADER_BYTES = 8
export const POINTER_BYTES = 8

export const ITEM_NULL = 0x00
export const ITEM_HEAP_CNT = 0x01
export const ITEM_HEAP_LENGTH = 0x02
export const ITEM_PAYLOAD_OFFSET = 0x03
export const ITEM_PAYLOAD_LENGTH = 0x04
export const ITEM_DESCRIPTOR = 0x05
export const ITEM_STREAM_CTRL = 0x06
export const ITEM_DESCRIPTOR_NAME = 0x10
export const ITEM_DESCRIPTOR_DESCRIPTION = 0x11
export const ITEM_DESCRIPTOR_SHAPE = 0x12
export const ITEM_DESCRIPTOR_FORMAT = 0x13
export const ITEM_DESCRIPTOR_ID = 0x14
export const ITEM_DESCRIPTOR_DTYPE = 0x15

export const STREAM_CTRL_START = 0
export const STREAM_CTRL_STOP = 2
