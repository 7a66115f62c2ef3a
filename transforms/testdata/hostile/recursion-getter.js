// code: transform_failed
// text: RangeError
export default function (event, ctx) {
  const o = { get a() { return this.a; } };
  return o.a;
}
