// code: transform_failed|script_timeout
// may: dies
export default function (event, ctx) {
  return Array.from({ [Symbol.iterator]: () => ({ next: Object }) }).length;
}
