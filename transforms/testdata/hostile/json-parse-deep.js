// code: transform_failed
// text: nested deeper
export default function (event, ctx) {
  return JSON.parse("[".repeat(1e6));
}
