// code: transform_failed|script_timeout
// text: deeper than 2000 levels|did not end in time
// may: dies
export default function (event, ctx) {
  const o = { get a() { return this.a; } };
  return o.a;
}
