import type { Json } from "hookline";
import { assert, run, test } from "hookline/test";
import transform from "./enrich";

const secrets = { pseudonym: "only for tests" };
const event = (site: string) => ({
  trans_id: "435", form_id: "319", OnUpdate: true,
  record: { trans_id: "435", form_id: "319", subject: "S-014-003", site, values: { VISIT: "V2" } } as Json,
});

test("the site's number and its own time", async () => {
  const berlin = await run(transform, event("014"), { secrets });
  assert.deepEqual(berlin.payload.hospital, { id: "H-2201", name: "Charité, Berlin" });
  assert.equal(berlin.payload.localTime, "2026-01-02T04:04:05+01:00");
  const boston = await run(transform, event("027"), { secrets });
  assert.equal(boston.payload.localTime, "2026-01-01T22:04:05-05:00");
});

test("the subject leaves under a pseudonym", async () => {
  const out = await run(transform, event("014"), { secrets });
  assert.match(out.payload.patient, /^[0-9a-f]{16}$/);
  const other = await run(transform, event("014"), { secrets: { pseudonym: "another key" } });
  assert.notEqual(other.payload.patient, out.payload.patient);
});

test("an unknown site is an error that says what to do", async () => {
  await assert.rejects(() => run(transform, event("999"), { secrets }), /site 999 is not in lookups\/sites.csv/);
});
