// code: transform_failed
// text: the limit is 1048576
export default function (event, ctx) {
  return Object.keys("x".repeat(1e7)).length;
}
