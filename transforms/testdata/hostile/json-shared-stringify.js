// code: transform_failed
// text: the limit is 1048576
export default function (event, ctx) {
  let a = [];
  for (let i = 0; i < 40; i++) a = [a, a];
  return JSON.stringify(a);
}
