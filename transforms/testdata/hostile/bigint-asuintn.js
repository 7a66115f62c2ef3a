// code: transform_failed
// text: bits, the limit is
export default function (event, ctx) {
  return String(BigInt.asUintN(1e10, -1n));
}
