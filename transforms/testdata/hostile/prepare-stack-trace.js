// code: transform_failed
// text: TypeError
export default function (event, ctx) {
  Error.prepareStackTrace = () => { for (;;) {} };
  throw new Error("x");
}
