// code: script_timeout
// text: did not end in time
export default function (event, ctx) {
  return new Proxy({}, { get() { for (;;) {} }, ownKeys: () => ["a"], getOwnPropertyDescriptor: () => ({ enumerable: true, configurable: true }) });
}
