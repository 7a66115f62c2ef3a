// code: transform_failed
// text: nested deeper
export default function (event, ctx) {
  let a = [];
  for (let i = 0; i < 1e4; i++) a = [a];
  return String(a);
}
