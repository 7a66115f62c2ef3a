// code: transform_failed
// text: concat would make
export default function (event, ctx) {
  let s = "x".repeat(1e6);
  for (;;) s = s.concat(s, s, s, s);
}
