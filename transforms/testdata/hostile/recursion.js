// code: transform_failed
// text: deeper than 2000 levels
export default function (event, ctx) {
  const f = () => f() + 1;
  return f();
}
