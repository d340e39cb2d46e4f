/** How programs answer: a line of JSON, bytes as hex. */
export function print(value: unknown): void {
  const plain = (_: string, v: unknown) =>
    ArrayBuffer.isView(v) ? Buffer.from(v.buffer, v.byteOffset, v.byteLength).toString('hex') : v
  console.log(JSON.stringify(value, plain))
}
