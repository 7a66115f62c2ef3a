// code: transform_failed
// text: polluted
export default function (event, ctx) {
  const o = JSON.parse('{"__proto__":{"polluted":1}}');
  Object.assign({}, o);
  throw new Error("polluted " + ({}).polluted);
}
