// code: transform_failed|script_timeout
// may: memory
export default function (event, ctx) {
  const a = [];
  for (;;) a.push(new Array(1000).fill("x" + a.length));
}
