// code: script_timeout
// text: did not end in time
export default function (event, ctx) {
  const d = new Date();
  Object.defineProperty(d, "toISOString", { value() { for (;;) {} } });
  return { d };
}
