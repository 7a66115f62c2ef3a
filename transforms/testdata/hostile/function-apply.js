// code: transform_failed
// text: 1000000000 arguments
export default function (event, ctx) {
  return Math.max.apply(null, { length: 1e9 });
}
