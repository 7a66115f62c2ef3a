// code: transform_failed|script_timeout
// may: dies
export default function (event, ctx) {
  return String(3n ** 50000000n);
}
