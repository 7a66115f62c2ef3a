// code: script_timeout
// text: did not end in time
export default function (event, ctx) {
  return [3, 2, 1].sort(() => { for (;;) {} });
}
