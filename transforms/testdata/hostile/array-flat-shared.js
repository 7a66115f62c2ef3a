// code: transform_failed|script_timeout
// may: memory
export default function (event, ctx) {
  let a = [1];
  for (let i = 0; i < 40; i++) a = [a, a];
  return a.flat(Infinity).length;
}
