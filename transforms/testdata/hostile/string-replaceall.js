// code: transform_failed
// text: replaceAll would make
export default function (event, ctx) {
  return "a".repeat(1e6).replaceAll("a", "b".repeat(1e6));
}
