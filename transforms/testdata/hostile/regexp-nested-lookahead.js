// code: transform_failed|script_timeout
// text: regular expression|did not end in time
export default function (event, ctx) {
  return /^(?=(a+)+$)(?!x)a*b$/.test("a".repeat(40) + "!");
}
