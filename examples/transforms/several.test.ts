import type { Json } from "hookline";
import { assert, run, test } from "hookline/test";
import transform from "./several";

const event = (values: { [field: string]: string }) => ({
  trans_id: "435", form_id: "319", OnReview: true, wf_id: 1, wf_object: { wf_name: "Monitor Review" },
  record: { trans_id: "435", form_id: "319", subject: "S-014-003", site: "014", values } as Json,
});

test("one message for the visit and one for each procedure done", async () => {
  const out = await run(transform, event({ VISIT: "V2", ECG: "Y", LAB: "N", MRI: "Y" }));
  assert.deepEqual(out.messages.map((m) => m.path), ["ctms/visits", "payments", "payments"]);
  assert.deepEqual(out.messages.slice(1).map((m) => m.payload.amount), [120, 640]);
  assert.notEqual(out.messages[1].payload.id, out.messages[2].payload.id);
});

test("run again, the payments have the same ids: they are not paid twice", async () => {
  const first = await run(transform, event({ VISIT: "V2", ECG: "Y" }));
  const again = await run(transform, event({ VISIT: "V2", ECG: "Y" }));
  assert.deepEqual(again, first);
});

test("other reviews pay nothing", async () => {
  const out = await run(transform, { ...event({}), wf_object: { wf_name: "Data Management" } });
  assert.equal(out.skip, "paid when the monitor has reviewed");
});
