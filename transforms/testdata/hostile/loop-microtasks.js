// code: script_timeout
// text: did not end in time
export default async function (event, ctx) {
  for (;;) await null;
}
