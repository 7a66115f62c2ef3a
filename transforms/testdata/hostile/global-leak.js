// code: transform_failed
// text: TypeError
export default function (event, ctx) {
  globalThis.leak = 1;
  return 1;
}
