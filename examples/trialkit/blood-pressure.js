// What was measured is not in the event, but in the record.
export default function (event, ctx) {
  const { site, subject, fields } = event.record;
  if (fields.systolic === undefined) return ctx.skip("nothing was measured");
  return {
    record: event.trans_id,
    site,
    subject,
    date: fields.visit_date,
    pressure: [fields.systolic, fields.diastolic],
  };
}
