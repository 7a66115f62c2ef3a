export default function (event) { return event }
