// code: transform_failed
// text: would make a string of 1073741824 characters
export default function (event, ctx) {
  return "x".repeat(2 ** 30);
}
