// code: transform_failed|script_timeout
// text: did not end in time|the limit is 1048576
export default function (event, ctx) {
  let a = [];
  for (let i = 0; i < 40; i++) a = [a, a];
  return JSON.stringify(a);
}
