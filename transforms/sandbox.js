// Runs once in every new runtime, before anything foreign. It makes everything
// that scripts share unchangeable, so that one event leaves nothing for the next.
(function (native, facts) {
  "use strict";
  const { getPrototypeOf, getOwnPropertyDescriptor, ownKeys, defineProperty } = Reflect;
  const stringify = JSON.stringify;

  const { log, skip, reject, message, lookup, secret } = native;

  delete globalThis.GoError; // goja's own, no part of JavaScript
  globalThis.console = { log, info: log, warn: log, error: log, debug: log };
  // What built-in functions make in one call is limited in Go (guards.go). These are
  // easier here, where the engine can interrupt them.
  const most = 16 * 1024 * 1024;
  const { isPrototypeOf } = Object.prototype;
  for (const name of ["ArrayBuffer", "Int8Array", "Uint8Array", "Uint8ClampedArray", "Int16Array", "Uint16Array",
    "Int32Array", "Uint32Array", "Float32Array", "Float64Array", "BigInt64Array", "BigUint64Array"]) {
    const original = globalThis[name];
    const size = original.BYTES_PER_ELEMENT || 1;
    const limited = new Proxy(original, {
      construct(target, args, newTarget) {
        const n = typeof args[0] === "number" ? args[0] : args[0] && !(args[0] instanceof ArrayBuffer) ? args[0].length : 0;
        if (n * size > most) throw new RangeError(`${name}: ${n * size} bytes, the limit is ${most}`);
        return Reflect.construct(target, args, newTarget === limited ? target : newTarget);
      },
    });
    // The engine's own instanceof does not know a Proxy for a function.
    defineProperty(original, Symbol.hasInstance, {
      value(v) { return isPrototypeOf.call(this.prototype, v); },
    });
    defineProperty(globalThis, name, { value: limited, writable: true, configurable: true });
    defineProperty(original.prototype, "constructor", { value: limited, writable: true, configurable: true });
  }
  defineProperty(Array.prototype, "flat", {
    value: {
      flat(depth = 1) {
        const out = [];
        const add = (list, depth) => {
          for (let i = 0; i < list.length; i++) {
            if (!(i in list)) continue;
            if (depth > 0 && Array.isArray(list[i])) add(list[i], depth - 1);
            else out.push(list[i]);
          }
        };
        add(this, Math.trunc(Number(depth)) || 0);
        return out;
      },
    }.flat,
    writable: true, configurable: true,
  });
  const words = {
    log, skip, reject, message, lookup, secret,
    crypto: { sha256: native.sha256, hmac: native.hmac, uuid: native.uuid },
    base64: { encode: native.encode, encodeUrl: native.encodeUrl, decode: native.decode, decodeBytes: native.decodeBytes },
    date: { format: native.format, parse: native.parse },
    trialkit: { get: native.get },
  };
  for (const name of ownKeys(facts)) {
    defineProperty(words, name, { get: facts[name], enumerable: true });
  }

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
  frozen.clear(); // what is returned keeps this scope

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
    words, show, text, failure, uint8Array: Uint8Array, freeze: Object.freeze, date: Date,
    keys: Object.keys, get: Reflect.get,
    define: (o, key, value) => defineProperty(o, key, { value, writable: true, enumerable: true, configurable: true }),
  };
})
