// code: transform_failed
// text: would make a string
export default function (event, ctx) {
  return new Array(1e6).join("x".repeat(1e6));
}
