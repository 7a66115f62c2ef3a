// code: transform_failed
// text: the limit is 1048576
export default function (event, ctx) {
  return String.raw({ raw: { length: 1e9 } });
}
