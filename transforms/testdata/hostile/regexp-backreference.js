// code: transform_failed|script_timeout
// text: regular expression|did not end in time
export default function (event, ctx) {
  return /^(a|aa)+\1b$/.test("a".repeat(60) + "!");
}
