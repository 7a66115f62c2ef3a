// code: transform_failed|script_timeout
// may: memory
export default function (event, ctx) {
  const s = "x".repeat(1e6);
  return new Array(1000).fill(s);
}
