// code: transform_failed
// text: the limit is 1048576
export default function (event, ctx) {
  return Array.prototype.indexOf.call({ length: 1e12 }, 1);
}
