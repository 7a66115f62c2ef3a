// The transform of `hookline demo`: the EHR's own names for what TrialKit sends.
export default function (event, ctx) {
  return {
    what: ctx.kind,
    record: event.trans_id,
    form: { id: event.form_id, name: event.form_name },
    review: event.wf_object ? event.wf_object.wf_name : undefined,
  };
}
