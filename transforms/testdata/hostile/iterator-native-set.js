// code: transform_failed|script_timeout
// may: dies
export default function (event, ctx) {
  return new Set({ [Symbol.iterator]: () => ({ next: Object }) }).size;
}
