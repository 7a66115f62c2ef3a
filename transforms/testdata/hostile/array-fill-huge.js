// code: transform_failed
// text: the limit is 1048576
export default function (event, ctx) {
  return new Array(1e9).fill(0);
}
