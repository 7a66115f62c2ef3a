import type { Json } from "hookline";
import { assert, run, test } from "hookline/test";
import transform from "./fhir";

const event = (values: { [field: string]: string }) => ({
  trans_id: "435", form_id: "319", OnUpdate: true,
  record: { trans_id: "435", form_id: "319", subject: "S-014-003", site: "014", values } as Json,
});

test("values become answers of their kind", async () => {
  const out = await run(transform, event({ SYSBP: "128", TEMP: "36.5", DOSE: "36.50", VSDAT: "2026-01-02", NOTE: "sitting", EMPTY: "" }));
  assert.deepEqual(out.payload.item, [
    { linkId: "SYSBP", answer: [{ valueDecimal: 128 }] },
    { linkId: "TEMP", answer: [{ valueDecimal: 36.5 }] },
    { linkId: "DOSE", answer: [{ valueString: "36.50" }] },
    { linkId: "VSDAT", answer: [{ valueDate: "2026-01-02" }] },
    { linkId: "NOTE", answer: [{ valueString: "sitting" }] },
  ]);
});

test("it is sent as FHIR", async () => {
  const out = await run(transform, event({}));
  assert.equal(out.messages[0].contentType, "application/fhir+json");
  assert.equal(out.messages[0].path, "QuestionnaireResponse");
  assert.equal(out.payload.status, "amended");
});

test("without a record it fails, and says what to set", async () => {
  await assert.rejects(() => run(transform, { trans_id: "435", form_id: "319", OnUpdate: true }), /enrich = true/);
});
