import type { Json } from "hookline";
import { assert, run, test } from "hookline/test";
import transform from "./hl7";
import { segment, text } from "./lib/hl7";

const event = (values: { [field: string]: string }, form_name = "Vital Signs") => ({
  trans_id: "435", form_id: "319", form_name, OnInsert: true,
  record: { trans_id: "435", form_id: "319", subject: "S-014-003", site: "014", values: { VSDAT: "2026-01-02", ...values } } as Json,
});

test("delimiters in a value are escaped", () => {
  assert.equal(text("a|b^c&d~e\\f"), "a\\F\\b\\S\\c\\T\\d\\R\\e\\E\\f");
  assert.equal(segment("OBX", { 1: "1", 3: "X" }), "OBX|1||X\r");
});

test("each value is a segment of its own, ended by a carriage return", async () => {
  const out = await run(transform, event({ SYSBP: "128", DIABP: "82" }));
  const segments = out.payload.split("\r");
  assert.deepEqual(segments.map((s: string) => s.slice(0, 3)), ["MSH", "PID", "OBR", "OBX", "OBX", ""]);
  assert.match(segments[0], /^MSH\|\^~\\&\|HOOKLINE\|ABC-123\|LIS\|HOSPITAL\|20260102030405\+0000\|\|ORU\^R01\^ORU_R01\|[0-9a-f]{20}\|T\|2\.5\.1\|/);
  assert.equal(segments[4], "OBX|2|NM|DIABP^Diastolic blood pressure^L||82|mm[Hg]^^UCUM|||||F|||20260102");
});

test("a record without vital signs is skipped", async () => {
  const out = await run(transform, event({}));
  assert.equal(out.skip, "no vital signs in the record");
});
