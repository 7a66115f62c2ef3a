// code: transform_failed
// text: ReferenceError
export default function (event, ctx) {
  return require("fs").readFileSync("/etc/passwd");
}
