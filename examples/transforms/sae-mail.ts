// The e-mail that tells the safety desk of a serious adverse event. The event itself
// says only that the form was saved, so the script reads the record.
import type { Transform } from "hookline";
import type { StudyRecord } from "./lib/record";

const transform: Transform = async (event, ctx) => {
  const record: StudyRecord = await ctx.trialkit.get(`form/7/${event.trans_id}`);
  const { AESER: serious, AETERM: term, AESTDAT: began } = record.values;
  if (serious !== "Y") return ctx.skip("the adverse event is not serious");
  if (!term) return ctx.reject("A serious adverse event needs its term (AETERM) before the safety desk can be told.");

  const what = ctx.kind === "insert" ? "A serious adverse event was entered" : "A serious adverse event was changed";
  const lines = [
    `${what} in study ${ctx.study}.`,
    "",
    `Site:     ${record.site}`,
    `Subject:  ${record.subject}`,
    `Term:     ${term}`,
    `Began:    ${began || "not entered"}`,
    `Record:   ${event.trans_id} (${event.form_name ?? "form " + event.form_id})`,
    `Received: ${ctx.date.format(ctx.now, "yyyy-MM-dd HH:mm", "Europe/Berlin")} (Berlin)`,
    "",
    `Hookline's reference: ${ctx.ref}`,
    "",
  ];
  return ctx.message(lines.join("\n"), {
    contentType: "text/plain; charset=utf-8",
    headers: { Subject: `[${ctx.study}${ctx.stage === "live" ? "" : " TEST"}] SAE, subject ${record.subject}` },
  });
};

export default transform;
