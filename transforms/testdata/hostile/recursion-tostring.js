// code: transform_failed
export default function (event, ctx) {
  const o = { toString() { return "" + this; } };
  return String(o);
}
