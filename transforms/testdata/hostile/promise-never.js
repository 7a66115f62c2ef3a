// code: transform_failed
// text: never settles
export default function (event, ctx) {
  return new Promise(() => {});
}
