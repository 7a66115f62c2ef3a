// The module "hookline/test" of files of tests. __hookline.bench is the host's side
// of it; only the program of a file of tests has it.
const bench = __hookline.bench;
const { stringify } = JSON;
const tests = [];
let running = false;
let turn = Promise.resolve();

export function test(name, body) {
  if (running) throw new TypeError("test stands at the top of the file, not in another test");
  if (typeof name !== "string" || typeof body !== "function") {
    throw new TypeError('write test("what it shows", async () => { ... })');
  }
  tests.push({ name, body });
}

// One run at a time: clock, seed and log belong to the one that is on.
export async function run(transform, event, given = {}) {
  if (typeof transform !== "function") {
    throw new TypeError("run needs the transform: import it with `import transform from \"./ehr\"`");
  }
  const before = turn;
  let done;
  turn = new Promise((resolve) => { done = resolve; });
  await before;
  try {
    const { ctx, ...rest } = given;
    const inner = bench.begin(stringify(event), stringify({ ctx, ...rest }));
    try {
      const result = await transform(inner.event, inner.ctx);
      return outcome(bench.end(result));
    } finally {
      bench.leave();
    }
  } finally {
    done();
  }
}

function outcome(o) {
  const messages = o.messages.map((m) => ({ ...m, payload: m.json ? JSON.parse(m.payload) : m.payload }));
  for (const m of messages) delete m.json;
  const out = { messages, payload: messages.length === 1 ? messages[0].payload : undefined, logs: o.logs };
  if (o.skip !== undefined) out.skip = o.skip;
  if (o.reject !== undefined) out.reject = o.reject;
  return out;
}

// What the host asks of the file.
export default async function answer(request) {
  if (request.list) return { tests: tests.map((t) => t.name) };
  running = true;
  await tests[request.run].body();
  return { ok: true };
}

class AssertionError extends Error {}
Object.defineProperty(AssertionError.prototype, "name", { value: "AssertionError" });

function fail(message, detail) {
  throw new AssertionError(message === undefined ? detail : message + ": " + detail);
}

export const assert = {
  ok(value, message) {
    if (!value) fail(message, "want something true, got " + show(value));
  },
  equal(actual, expected, message) {
    if (!same(actual, expected)) fail(message, differ(expected, actual, "=== and not the same object: for their contents use assert.deepEqual"));
  },
  notEqual(actual, expected, message) {
    if (same(actual, expected)) fail(message, "want anything but " + show(expected));
  },
  deepEqual(actual, expected, message) {
    if (!deep(actual, expected, new Map())) fail(message, differ(expected, actual, "they are of different kinds"));
  },
  match(text, pattern, message) {
    if (typeof text !== "string" || !fits(pattern, text)) fail(message, "want a text that matches " + pattern + ", got " + show(text));
  },
  throws(body, pattern) {
    let threw = false, error;
    try { body(); } catch (e) { threw = true; error = e; }
    caught(threw, error, pattern, "nothing was thrown");
  },
  async rejects(body, pattern) {
    let threw = false, error;
    try { await body(); } catch (e) { threw = true; error = e; }
    caught(threw, error, pattern, "the promise was not rejected");
  },
};

function caught(threw, error, pattern, otherwise) {
  if (!threw) fail(undefined, otherwise);
  if (pattern !== undefined && !fits(pattern, String(error))) {
    fail(undefined, "want an error that matches " + pattern + ", got " + String(error));
  }
}

// Not pattern.test: of a pattern with the flag g that goes on where it was.
function fits(pattern, text) { return text.search(pattern) >= 0; }

function same(a, b) { return a === b || (a !== a && b !== b); }

function kindOf(v) { return Object.prototype.toString.call(v); }

// Equal in contents: keys in any order; undefined is not the same as no key.
function deep(a, b, seen) {
  if (same(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (kindOf(a) !== kindOf(b)) return false;
  if (seen.get(a) === b) return true; // a cycle
  seen.set(a, b);
  if (a instanceof Date) return same(a.getTime(), b.getTime());
  if (a instanceof RegExp) return String(a) === String(b);
  if (a instanceof Error) return a.name === b.name && a.message === b.message;
  if (a instanceof Map || a instanceof Set) return a.size === b.size && deep([...a], [...b], seen);
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && (!Array.isArray(a) || a.length === b.length) &&
    keys.every((k) => Object.prototype.hasOwnProperty.call(b, k) && deep(a[k], b[k], seen));
}

function differ(expected, actual, otherwise) {
  const want = show(expected), got = show(actual);
  if (want === got) return "want " + want + ", got what looks the same: " + otherwise;
  if (!want.includes("\n") && !got.includes("\n") && want.length + got.length < 100) return "want " + want + ", got " + got;
  return "what is expected (-) against what came (+)\n" + bench.diff(want, got);
}

// A value for people, with its keys sorted and the lines of a text one by one.
function show(value) {
  const above = [];
  function write(v, indent) {
    if (typeof v === "string") return stringify(v).replace(/(\\r\\n|\\n|\\r)(?!")/g, "$1\n" + indent + "  ");
    if (typeof v === "bigint") return v + "n";
    if (typeof v === "function") return "[function " + v.name + "]";
    if (typeof v !== "object" || v === null) return Object.is(v, -0) ? "-0" : String(v);
    if (v instanceof Date) return "Date(" + (isNaN(v) ? "invalid" : v.toISOString()) + ")";
    if (v instanceof RegExp || v instanceof Error) return String(v);
    if (above.includes(v)) return "[itself]";
    above.push(v);
    const deeper = indent + "  ";
    let lines, open = "{", close = "}";
    if (Array.isArray(v) || ArrayBuffer.isView(v)) {
      [open, close] = ["[", "]"];
      lines = Array.from(v, (e) => write(e, deeper));
    } else if (v instanceof Map) {
      [open, close] = ["Map {", "}"];
      lines = [...v].map(([k, e]) => write(k, deeper) + " => " + write(e, deeper));
    } else if (v instanceof Set) {
      [open, close] = ["Set {", "}"];
      lines = [...v].map((e) => write(e, deeper));
    } else {
      lines = Object.keys(v).sort().map((k) => stringify(k) + ": " + write(v[k], deeper));
    }
    above.pop();
    if (lines.length === 0) return open + close;
    return open + "\n" + lines.map((l) => deeper + l).join(",\n") + "\n" + indent + close;
  }
  return write(value, "");
}
