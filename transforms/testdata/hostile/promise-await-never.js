// code: transform_failed
// text: never settles
export default async function (event, ctx) {
  await new Promise(() => {});
  return 1;
}
