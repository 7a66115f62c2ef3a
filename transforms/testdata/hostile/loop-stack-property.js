// code: script_timeout
// text: did not end in time
export default function (event, ctx) {
  const e = new Error("x");
  Object.defineProperty(e, "stack", { get() { for (;;) {} } });
  throw e;
}
