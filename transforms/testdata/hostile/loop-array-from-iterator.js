// code: script_timeout
// text: did not end in time
export default function (event, ctx) {
  return Array.from({ [Symbol.iterator]: () => ({ next: () => ({ value: 1 }) }) }).length;
}
