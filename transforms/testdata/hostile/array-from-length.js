// code: transform_failed
// text: the limit is 1048576
export default function (event, ctx) {
  return Array.from({ length: 1e9 }).length;
}
