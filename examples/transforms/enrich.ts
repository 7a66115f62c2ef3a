// Enrichment with a lookup: the record from TrialKit, the hospital's own number of the
// site from a table, and the subject under a pseudonym. For a route with
// `enrich = true` and `secrets = { pseudonym = "env:PSEUDONYM_KEY" }`.
import type { Transform } from "hookline";
import { recordOf } from "./lib/record";

const transform: Transform = (event, ctx) => {
  const record = recordOf(event);
  const site = ctx.lookup("sites.csv").get(record.site);
  if (site === undefined) throw new Error(`site ${record.site} is not in lookups/sites.csv: add it and reload`);
  return {
    hospital: { id: site.hospital, name: site.name },
    patient: ctx.crypto.hmac(ctx.secret("pseudonym"), record.subject).slice(0, 16),
    visit: record.values.VISIT,
    localTime: ctx.date.format(ctx.now, "yyyy-MM-dd'T'HH:mm:ssxxx", site.zone),
    form: event.form_id,
  };
};

export default transform;
