// code: transform_failed
export default function (event, ctx) {
  (0, eval)("var leaked = 1");
  throw new Error(typeof leaked);
}
