// code: transform_failed|script_timeout
// may: dies
export default function (event, ctx) {
  let p = {};
  for (let i = 0; i < 1e6; i++) p = new Proxy(p, {});
  return p.x;
}
