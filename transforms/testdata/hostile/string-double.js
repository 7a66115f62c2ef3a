// code: transform_failed|script_timeout
// may: memory
export default function (event, ctx) {
  let s = "x";
  for (;;) s += s;
}
