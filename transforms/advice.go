package transforms

// What to use instead of what scripts do not have.
const (
	noFiles       = "scripts have no files: import the file, or use ctx.lookup"
	noNetwork     = "scripts have no network: ctx.trialkit.get reads from TrialKit, a route sends what you return"
	noTimers      = "there are no timers: a script runs to its end at once, and Hookline tries a delivery again by itself"
	noEnvironment = "scripts have no environment: ctx.secret reads a secret, ctx tells of hook, route, study and stage"
	noClock       = "the clock stands still during a run: use ctx.now"
	noPage        = "this is no browser"
	noWeak        = "a script keeps nothing from one event to the next: use a Map"
	noThreads     = "a script has one thread"
	useCrypto     = "use ctx.crypto"
	useBase64     = "use ctx.base64, or a Uint8Array"
	useLocale     = "use ctx.date.format for dates, and toFixed for numbers"
	useMap        = "write the loop out, or collect into a Map"
)

// lacks are globals that people expect, with what to use instead.
var lacks = map[string]string{
	"Intl":       useLocale,
	"setTimeout": noTimers, "setInterval": noTimers, "setImmediate": noTimers,
	"clearTimeout": noTimers, "clearInterval": noTimers, "clearImmediate": noTimers,
	"requestAnimationFrame": noTimers, "requestIdleCallback": noTimers,
	"queueMicrotask": "write Promise.resolve().then(f)",
	"fetch":          noNetwork, "XMLHttpRequest": noNetwork, "WebSocket": noNetwork, "EventSource": noNetwork,
	"Headers": noNetwork, "Request": noNetwork, "Response": noNetwork, "FormData": noNetwork,
	"AbortController": noNetwork, "AbortSignal": noNetwork,
	"Blob": useBase64, "File": noFiles, "FileReader": noFiles,
	"ReadableStream": "read all of it at once", "WritableStream": "return all of it at once", "TransformStream": "return all of it at once",
	"process": noEnvironment, "Deno": noEnvironment, "Bun": noEnvironment, "__dirname": noFiles, "__filename": noFiles,
	"global": "write globalThis", "window": noPage, "self": noPage, "document": noPage, "navigator": noPage,
	"location": noPage, "localStorage": noPage, "sessionStorage": noPage, "alert": "use ctx.log",
	"Buffer": useBase64, "btoa": "use ctx.base64.encode", "atob": "use ctx.base64.decode",
	"TextEncoder": "ctx.base64 and ctx.crypto take text as UTF-8; its bytes are ctx.base64.decodeBytes(ctx.base64.encode(text))",
	"TextDecoder": "ctx.base64.decode gives text",
	"URL":         "put it together as text, with encodeURIComponent", "URLSearchParams": "put it together as text, with encodeURIComponent",
	"structuredClone": "write JSON.parse(JSON.stringify(value))",
	"crypto":          useCrypto, "performance": noClock, "Temporal": "use ctx.now and ctx.date",
	"WeakRef": noWeak, "FinalizationRegistry": noWeak,
	"SharedArrayBuffer": noThreads, "Atomics": noThreads, "Worker": noThreads, "MessageChannel": noThreads,
	"WebAssembly": "write it in JavaScript", "Float16Array": "use a Float32Array",
	"Iterator": "spread it into an array first", "DisposableStack": "use try and finally", "AsyncDisposableStack": "use try and finally",
	"require": "import the file or package at the top of the script", "module": "write export default", "exports": "write export",
}

// lacksStatic are functions of built-in objects that people expect.
var lacksStatic = map[string]string{
	"Object.groupBy": useMap, "Map.groupBy": useMap,
	"Array.fromAsync":       "await in a loop",
	"Promise.withResolvers": "write new Promise((resolve, reject) => ...)", "Promise.try": "write (async () => ...)()",
	"RegExp.escape":           `write text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")`,
	"Error.captureStackTrace": "new Error() has its stack already",
	"Symbol.asyncIterator":    "write an async function* instead", "Symbol.dispose": "use try and finally", "Symbol.asyncDispose": "use try and finally",
}
