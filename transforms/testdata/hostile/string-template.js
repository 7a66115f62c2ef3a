// code: transform_failed|script_timeout
// may: memory
export default function (event, ctx) {
  let s = "xy";
  for (;;) s = `${s}${s}`;
}
