// code: script_timeout
// text: did not end in time
export default function (event, ctx) {
  return "x".repeat({ valueOf() { for (;;) {} } });
}
