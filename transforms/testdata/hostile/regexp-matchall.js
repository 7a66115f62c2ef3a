// code: transform_failed|script_timeout
// text: regular expression|did not end in time
export default function (event, ctx) {
  return [...("a".repeat(40) + "!").matchAll(/(?=(a+)+$)/g)];
}
