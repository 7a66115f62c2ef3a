// code: transform_failed
export default function (event, ctx) {
  throw new Error((() => {}).constructor("return typeof process + typeof Deno + typeof fetch")());
}
