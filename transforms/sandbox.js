// Runs once in every new runtime, before anything foreign. It makes everything
// that scripts share unchangeable, so that one event leaves nothing for the next.
(function (native) {
  "use strict";
  const { getPrototypeOf, getOwnPropertyDescriptor, ownKeys, defineProperty } = Reflect;
  const stringify = JSON.stringify;

  const { log, skip, reject, message, lookup, secret } = native;

  delete globalThis.GoError; // goja's own, no part of JavaScript
  globalThis.console = { log, info: log, warn: log, error: log, debug: log };
  const words = {
    log, skip, reject, message, lookup, secret,
    crypto: { sha256: native.sha256, hmac: native.hmac, uuid: native.uuid },
    base64: { encode: native.encode, encodeUrl: native.encodeUrl, decode: native.decode, decodeBytes: native.decodeBytes },
    date: { format: native.format, parse: native.parse },
    trialkit: { get: native.get },
  };

  // A frozen prototype also stops `object.toString = ...` on everything that
  // inherits from it, although that harms nobody. For the prototypes whose
  // names scripts do assign, an accessor that looks like the old value puts the
  // new one onto the object itself. The others keep plain values: every call of
  // array.map would pay for it.
  function assignable(proto) {
    for (const key of ownKeys(proto)) {
      const d = getOwnPropertyDescriptor(proto, key);
      if (!("value" in d) || !d.writable || !d.configurable) continue;
      const value = d.value;
      defineProperty(proto, key, {
        get() { return value; },
        set(v) {
          const done = this !== proto &&
            defineProperty(this, key, { value: v, writable: true, enumerable: true, configurable: true });
          if (!done) throw new TypeError("Cannot assign to read only property '" + String(key) + "'");
        },
        enumerable: d.enumerable,
        configurable: false,
      });
    }
  }
  for (const c of [Object, Function, Error, AggregateError, TypeError, ReferenceError, SyntaxError, RangeError, EvalError, URIError]) {
    assignable(c.prototype);
  }

  const frozen = new Set();
  function freeze(o) {
    if (o === null || (typeof o !== "object" && typeof o !== "function") || frozen.has(o)) return;
    frozen.add(o);
    freeze(getPrototypeOf(o));
    const keys = ownKeys(o);
    for (let i = 0; i < keys.length; i++) { // for-of would take half as long again
      const d = getOwnPropertyDescriptor(o, keys[i]);
      freeze(d.value);
      freeze(d.get);
      freeze(d.set);
    }
    Object.freeze(o);
  }
  // The prototypes below are reachable only through syntax.
  for (const hidden of [
    function* () {}, async function () {}, (function* () {})(),
    [][Symbol.iterator](), new Map()[Symbol.iterator](), new Set()[Symbol.iterator](),
    ""[Symbol.iterator](), "".matchAll(/a/g),
  ]) {
    freeze(getPrototypeOf(hidden));
  }
  freeze(words);
  freeze(globalThis);

  function show(v) {
    if (typeof v === "string") return v;
    try {
      if (v instanceof Error) return v.stack || String(v);
      const json = typeof v === "object" && v !== null ? stringify(v) : undefined;
      return json === undefined ? String(v) : json;
    } catch {
      return "[a value that cannot be shown]";
    }
  }
  function text(v) {
    try {
      return String(v);
    } catch {
      return "[a value that cannot be shown]";
    }
  }
  function failure(code, text) {
    const e = new Error(text);
    e.code = code;
    return e;
  }
  return {
    words, show, text, failure, uint8Array: Uint8Array, freeze: Object.freeze,
    stringify: (v) => stringify(v), date: (ms) => new Date(ms),
  };
})
