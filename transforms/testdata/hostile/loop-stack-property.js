// code: transform_failed
// text: Error: x
export default function (event, ctx) {
  const e = new Error("x");
  Object.defineProperty(e, "stack", { get() { for (;;) {} } });
  throw e;
}
