// code: transform_failed
// text: the limit is 1048576
export default function (event, ctx) {
  return "ab".repeat(5e6).split("").length;
}
