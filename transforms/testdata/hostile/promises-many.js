// code: transform_failed|script_timeout
// may: memory
export default function (event, ctx) {
  const all = [];
  for (;;) all.push(Promise.resolve(all.length).then((x) => [x]));
}
