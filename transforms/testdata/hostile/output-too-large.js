// code: transform_failed
// text: the limit is 1048576
export default function (event, ctx) {
  return "x".repeat(2e6);
}
