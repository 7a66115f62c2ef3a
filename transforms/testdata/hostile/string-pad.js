// code: transform_failed
// text: would make a string
export default function (event, ctx) {
  return "x".padStart(1e9) + "x".padEnd(1e9);
}
