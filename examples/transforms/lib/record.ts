// The shape of a record in these examples. TrialKit's own is not public: look at one of
// yours (`hookline explain` shows what was read) and write down what you use of it.
import type { Event } from "hookline";

export interface StudyRecord {
  trans_id: string;
  form_id: string;
  subject: string;
  site: string;
  values: { [field: string]: string };
}

/** The record of an event, for routes with `enrich = true`. */
export function recordOf(event: Event): StudyRecord {
  if (event.record === undefined) throw new Error("there is no event.record: set enrich = true on the route");
  return event.record as unknown as StudyRecord;
}
