// code: transform_failed|script_timeout
// text: did not end in time|nested deeper
export default function (event, ctx) {
  let a = [];
  for (let i = 0; i < 1e5; i++) a = [a];
  return JSON.stringify(a);
}
