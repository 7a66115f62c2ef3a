// code: transform_failed|script_timeout
// text: regular expression|did not end in time
export default function (event, ctx) {
  return ("a".repeat(40) + "!").replace(/^(?=(a+)+$)/g, "x");
}
