// code: transform_failed
// text: holds itself
export default function (event, ctx) {
  event.self = event;
  return event;
}
