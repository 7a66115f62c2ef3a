// code: transform_failed
// text: the limit is 1048576
export default function (event, ctx) {
  const a = [];
  a.length = 4294967295;
  a.forEach(() => {});
  return a;
}
