// Several messages from one event: when a visit has been reviewed, the trial management
// system learns of it, and each procedure of the visit is paid to the site.
import type { Message, Transform } from "hookline";
import { recordOf } from "./lib/record";

const fees: { [procedure: string]: number } = { ECG: 120, LAB: 85, MRI: 640 };

const transform: Transform = (event, ctx) => {
  if (ctx.kind !== "review" || event.wf_object?.wf_name !== "Monitor Review") return ctx.skip("paid when the monitor has reviewed");
  const record = recordOf(event);
  const messages: Message[] = [
    ctx.message({ visit: record.values.VISIT, subject: record.subject, reviewed: ctx.now }, { path: "ctms/visits", key: record.site }),
  ];
  for (const [procedure, fee] of Object.entries(fees)) {
    if (record.values[procedure] !== "Y") continue;
    messages.push(ctx.message(
      { id: ctx.crypto.uuid(), site: record.site, procedure, amount: fee, currency: "EUR" },
      { path: "payments", key: record.site, headers: { "X-Study": ctx.study } },
    ));
  }
  return messages;
};

export default transform;
