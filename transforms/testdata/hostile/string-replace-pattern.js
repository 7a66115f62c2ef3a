// code: transform_failed
// text: replace could make
export default function (event, ctx) {
  return "a".repeat(1e6).replace(/a/g, "$`".repeat(1000));
}
