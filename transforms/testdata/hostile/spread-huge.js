// code: transform_failed|script_timeout
// may: memory
export default function (event, ctx) {
  const a = new Array(1e6).fill(1);
  const m = [];
  for (;;) m.push([...a]);
}
