// code: transform_failed|script_timeout
// may: memory
export default function (event, ctx) {
  let n = 3n;
  for (;;) n = n * n;
}
