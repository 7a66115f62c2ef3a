// What the hospital's system expects, made from what TrialKit sends.
export default function (event, ctx) {
  return {
    record: event.trans_id,
    form: { id: event.form_id, name: event.form_name },
    change: ctx.kind, // "insert", "update" or "review"
  };
}
