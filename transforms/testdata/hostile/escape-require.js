// code: transform_failed
// text: TypeError
export default function (event, ctx) {
  return globalThis["require"]("fs").readFileSync("/etc/passwd");
}
