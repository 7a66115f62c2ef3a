// code: script_timeout
// text: did not end in time
export default function (event, ctx) {
  function* g() { for (;;) yield 1; }
  return [...g()].length;
}
