// code: script_timeout
// text: did not end in time
export default function (event, ctx) {
  const f = () => Promise.resolve().then(f);
  return f();
}
