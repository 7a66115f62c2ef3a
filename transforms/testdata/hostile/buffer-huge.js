// code: transform_failed
// text: bytes, the limit is
export default function (event, ctx) {
  return new ArrayBuffer(8e9).byteLength;
}
