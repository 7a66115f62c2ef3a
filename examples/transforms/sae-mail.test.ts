import { assert, run, test } from "hookline/test";
import transform from "./sae-mail";

const event = { trans_id: "912", form_id: "320", form_name: "Adverse Event", OnInsert: true };

function trialkit(values: { [field: string]: string }) {
  return { "form/7/912": { trans_id: "912", form_id: "320", subject: "S-014-003", site: "014", values } };
}

test("a serious one is told", async () => {
  const out = await run(transform, event, {
    ctx: { stage: "live" },
    trialkit: trialkit({ AESER: "Y", AETERM: "Anaphylaxis", AESTDAT: "2026-01-01" }),
  });
  assert.equal(out.messages[0].headers["Subject"], "[ABC-123] SAE, subject S-014-003");
  assert.match(out.payload, /^Term: +Anaphylaxis$/m);
  assert.match(out.payload, /2026-01-02 04:04 \(Berlin\)/);
});

test("others are not", async () => {
  const out = await run(transform, event, { trialkit: trialkit({ AESER: "N", AETERM: "Headache" }) });
  assert.equal(out.skip, "the adverse event is not serious");
});

test("the user is told what is missing", async () => {
  const out = await run(transform, event, { trialkit: trialkit({ AESER: "Y" }) });
  assert.match(out.reject ?? "", /AETERM/);
});

test("a record that cannot be read is an error, not a mail that says nothing", async () => {
  await assert.rejects(() => run(transform, event));
});
