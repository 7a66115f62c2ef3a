// An HL7 v2.5.1 message ORU^R01 of a record's vital signs, for a route with `enrich = true`.
import type { Transform } from "hookline";
import { components, segment, text } from "./lib/hl7";
import { recordOf } from "./lib/record";

const observations = [
  { field: "SYSBP", name: "Systolic blood pressure", unit: "mm[Hg]" },
  { field: "DIABP", name: "Diastolic blood pressure", unit: "mm[Hg]" },
  { field: "PULSE", name: "Heart rate", unit: "/min" },
];

const transform: Transform = (event, ctx) => {
  const record = recordOf(event);
  const now = ctx.date.format(ctx.now, "yyyyMMddHHmmssxx");
  const taken = ctx.date.format(ctx.date.parse(record.values.VSDAT, "yyyy-MM-dd"), "yyyyMMdd");
  const status = ctx.kind === "insert" ? "F" : "C"; // final, or a correction of it

  let message = segment("MSH", {
    2: "^~\\&", 3: "HOOKLINE", 4: text(ctx.study), 5: "LIS", 6: "HOSPITAL", 7: now,
    9: "ORU^R01^ORU_R01",
    10: ctx.deliveryId.replaceAll("-", "").slice(-20), // at most 20 characters
    11: ctx.stage === "live" ? "P" : "T", 12: "2.5.1", 18: "UNICODE UTF-8",
  });
  message += segment("PID", {
    1: "1", 3: components(record.subject, "", "", ctx.study, "PI"),
    5: components(record.subject, "", "", "", "", "", "S"), // a pseudonym, no name
  });
  message += segment("OBR", {
    1: "1", 3: components(record.trans_id, "TRIALKIT"), 4: components(record.form_id, event.form_name ?? "", "L"),
    7: taken, 25: status,
  });
  let set = 0;
  for (const o of observations) {
    const value = record.values[o.field];
    if (!value) continue;
    message += segment("OBX", {
      1: String(++set), 2: "NM", 3: components(o.field, o.name, "L"), 5: text(value),
      6: components(o.unit, "", "UCUM"), 11: status, 14: taken,
    });
  }
  if (set === 0) return ctx.skip("no vital signs in the record");
  return ctx.message(message, { contentType: "x-application/hl7-v2+er7; charset=utf-8", key: record.subject });
};

export default transform;
