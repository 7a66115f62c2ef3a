// code: transform_failed
// text: bytes, the limit is
export default function (event, ctx) {
  return new Float64Array(1e9).length;
}
