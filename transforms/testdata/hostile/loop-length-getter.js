// code: script_timeout
// may: dies
export default function (event, ctx) {
  let n = 0;
  return Array.prototype.indexOf.call({ get length() { return n++ ? 1e12 : 1; } }, 1);
}
