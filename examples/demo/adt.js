// A change of a record as an HL7 v2 message. MSH-10 is of this event alone, and the
// same in every attempt: by it the receiver can recognise a repetition. MSH-7 is when
// Hookline took the event in.
export default function (event, ctx) {
  const escape = (s) => String(s ?? "").replace(/[\\|^&~\r\n]/g, (c) =>
    ({ "\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\r": "\\X0D\\", "\n": "\\X0A\\" })[c]);
  const time = ctx.now.toISOString().replace(/[-:T]/g, "").slice(0, 14) + "+0000";
  const id = ctx.now.getTime().toString(36) + ctx.ref.replace("-", ""); // at most 20 characters
  return [
    `MSH|^~\\&|HOOKLINE|${escape(ctx.study)}|EHR|HOSPITAL|${time}||ADT^A08^ADT_A01|${id}|P|2.5||||||UNICODE UTF-8`,
    `EVN|A08|${time}`,
    `PID|1||${escape(event.trans_id)}`,
    `NTE|1||${escape(event.form_name)}`,
  ].join("\r") + "\r";
}
