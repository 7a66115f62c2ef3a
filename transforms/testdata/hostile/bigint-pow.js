// code: transform_failed|script_timeout
// may: dies
export default function (event, ctx) {
  return String(2n ** 100000000000n);
}
