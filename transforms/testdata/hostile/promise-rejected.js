// code: transform_failed
// text: not awaited
export default function (event, ctx) {
  Promise.reject(new Error("lost"));
  return 1;
}
