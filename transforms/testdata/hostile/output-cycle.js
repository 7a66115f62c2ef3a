// code: transform_failed
// text: circular
export default function (event, ctx) {
  event.self = event;
  return event;
}
