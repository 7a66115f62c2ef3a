import { assert, run, test } from "hookline/test";
import transform from "./rename";

const visit = { trans_id: "435", form_id: "319", form_name: "Visit" };

test("an insert is a create, an update a change", async () => {
  const inserted = await run(transform, { ...visit, OnInsert: true });
  assert.equal(inserted.payload.operation, "create");
  assert.equal(inserted.payload.table, "visit");
  const updated = await run(transform, { ...visit, OnUpdate: true });
  assert.equal(updated.payload.operation, "change");
});

test("the time is when Hookline received the event", async () => {
  const now = new Date("2026-03-01T12:30:15Z");
  const out = await run(transform, { ...visit, OnUpdate: true }, { ctx: { now, study: "XYZ-9" } });
  assert.equal(out.payload.at, "2026-03-01T12:30:15.000Z");
  assert.equal(out.payload.study, "XYZ-9");
});

test("other forms and reviews are skipped", async () => {
  const form = await run(transform, { ...visit, form_id: "7", OnUpdate: true });
  assert.equal(form.skip, "form 7 is not for the warehouse");
  assert.deepEqual(form.messages, []);
  const review = await run(transform, { ...visit, OnReview: true });
  assert.match(review.skip ?? "", /reviews/);
});
