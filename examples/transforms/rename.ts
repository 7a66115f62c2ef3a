// Rename and filter: two forms, under the names that the data warehouse knows them by.
import type { Transform } from "hookline";

const tables: { [form: string]: string } = {
  "319": "visit",
  "320": "adverse_event",
};

const transform: Transform = (event, ctx) => {
  const table = tables[event.form_id];
  if (table === undefined) return ctx.skip(`form ${event.form_id} is not for the warehouse`);
  if (ctx.kind === "review") return ctx.skip("the warehouse does not keep reviews");
  return {
    table,
    key: event.trans_id,
    operation: ctx.kind === "insert" ? "create" : "change",
    study: ctx.study,
    at: ctx.now,
  };
};

export default transform;
