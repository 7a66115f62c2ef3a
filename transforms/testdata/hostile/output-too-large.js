// code: transform_failed
// text: more than 1048576 bytes
export default function (event, ctx) {
  return "x".repeat(2e6);
}
