// code: transform_failed|script_timeout
// may: dies
export default function (event, ctx) {
  return String(1n << 100000000000n);
}
