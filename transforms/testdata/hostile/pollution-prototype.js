// code: transform_failed
// text: TypeError
export default function (event, ctx) {
  Object.prototype.polluted = 1;
  return 1;
}
