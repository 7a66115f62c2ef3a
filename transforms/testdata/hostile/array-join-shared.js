// code: transform_failed|script_timeout
// may: dies
export default function (event, ctx) {
  let a = [];
  for (let i = 0; i < 40; i++) a = [a, a];
  return String(a);
}
