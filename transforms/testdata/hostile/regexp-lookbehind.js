// code: transform_failed|script_timeout
// text: regular expression|did not end in time
export default function (event, ctx) {
  return /(?<=(a+)+)(?<!b)c$/.test("a".repeat(40) + "!") || /^(?!(a|a?)+$)/.test("a".repeat(40) + "!");
}
