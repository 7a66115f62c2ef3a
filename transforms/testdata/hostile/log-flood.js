// code: ok
export default function (event, ctx) {
  for (let i = 0; i < 3e4; i++) console.log("0123456789");
  return 1;
}
