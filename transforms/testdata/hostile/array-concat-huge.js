// code: transform_failed
// text: the limit is 1048576
export default function (event, ctx) {
  const a = new Array(1e6);
  return a.concat(a, a, a).length;
}
