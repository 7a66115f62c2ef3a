// A FHIR R4 QuestionnaireResponse of a record, for a route with `enrich = true`.
import type { Transform } from "hookline";
import { recordOf } from "./lib/record";

type Answer = { valueDecimal: number } | { valueDate: string } | { valueString: string };

function answer(value: string): Answer {
  // FHIR's decimal keeps its digits: 36.50 is no 36.5 there, so such stay text.
  if (/^-?(0|[1-9]\d*)(\.\d*[1-9])?$/.test(value) && value.length < 16) return { valueDecimal: Number(value) };
  if (/^\d{4}-\d{2}-\d{2}$/.test(value)) return { valueDate: value };
  return { valueString: value };
}

const system = "https://trialkit.example.org";

const transform: Transform = (event, ctx) => {
  const record = recordOf(event);
  const identifier = { system: `${system}/record`, value: record.trans_id };
  const resource = {
    resourceType: "QuestionnaireResponse",
    identifier,
    questionnaire: `${system}/Questionnaire/${record.form_id}`,
    status: ctx.kind === "insert" ? "completed" : "amended",
    subject: { identifier: { system: `${system}/${ctx.study}/subject`, value: record.subject } },
    authored: ctx.date.format(ctx.now),
    item: Object.entries(record.values)
      .filter(([, value]) => value !== "")
      .map(([linkId, value]) => ({ linkId, answer: [answer(value)] })),
  };
  return ctx.message(resource, {
    contentType: "application/fhir+json",
    path: "QuestionnaireResponse",
    headers: { "If-None-Exist": `identifier=${identifier.system}|${identifier.value}` },
    key: record.trans_id,
  });
};

export default transform;
