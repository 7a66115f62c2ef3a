// code: transform_failed
// text: TypeError
export default function (event, ctx) {
  Array.prototype.map = () => "mine";
  return 1;
}
