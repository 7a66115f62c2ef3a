// code: script_timeout
// text: did not end in time
export default function (event, ctx) {
  ctx.log({ toJSON() { for (;;) {} } });
  return 1;
}
