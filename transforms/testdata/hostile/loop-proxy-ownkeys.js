// code: script_timeout
// text: did not end in time
export default function (event, ctx) {
  return Object.keys(new Proxy({}, { ownKeys() { for (;;) {} } }));
}
