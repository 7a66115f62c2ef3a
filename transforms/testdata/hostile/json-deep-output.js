// code: transform_failed|script_timeout
// may: dies
export default function (event, ctx) {
  let a = [];
  for (let i = 0; i < 1e5; i++) a = [a];
  return a;
}
