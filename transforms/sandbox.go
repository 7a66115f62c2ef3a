package transforms

import (
	_ "embed"
	"errors"
	"math/rand/v2"
	"reflect"
	"time"

	"github.com/dop251/goja"
	"github.com/dop251/goja/parser"
)

// maxCalls is how deep a script's functions may call each other.
const maxCalls = 2000

//go:embed sandbox.js
var sandboxSource string

var sandboxCode = goja.MustCompile("sandbox.js", sandboxSource, false)

// sandbox is a runtime with frozen globals and one program's wrapper function,
// whose every call is a fresh module scope. A program that cannot change its module
// scope has one for all runs. One run uses the sandbox at a time.
//
// The runtime is entered only through callables. They drain the queue of
// promise jobs before they return: a job left behind would run in the next
// event (no state).
type sandbox struct {
	rt     *goja.Runtime
	module goja.Callable // module(collect, give): evaluates the script, collects its default export
	export goja.Value    // what the last evaluation exported
	script goja.Callable // that, of a program without state; nil until it is evaluated

	words   *goja.Object // prototype of ctx
	show    goja.Callable
	text    goja.Callable
	freeze  goja.Callable
	failure goja.Callable // failure(code, text): an Error with a code
	collect goja.Value

	// Object.keys, Reflect.get and Object.defineProperty, for keys that are no
	// strings of Go.
	keys, get, define goja.Callable
	encode            goja.Callable // encode(value): has encoder write it
	encoder           *encoder      // the one that is on now
	spare             *encoder      // for the next value, or nil
	decoder           decoder       // one at a time: nothing of a script runs in it
	give              goja.Value    // gives
	returned          returned

	uint8Array *goja.Object    // the constructor
	date       *goja.Object    // the constructor
	inherited  map[string]bool // the names that every object has

	run   *run  // the one that is on now
	clock clock // of that
}

// newSandbox makes a runtime for the program. Nothing of the script runs yet.
func newSandbox(p *program) (*sandbox, error) {
	s := &sandbox{rt: goja.New()}
	s.rt.SetMaxCallStackSize(maxCalls)
	s.rt.SetParserOptions(parser.WithDisableSourceMaps) // of eval: they would open files
	s.rt.SetTimeSource(func() time.Time { return s.run.now })
	s.rt.SetRandSource(func() float64 { return s.run.random() })
	s.rt.SetPromiseRejectionTracker(func(p *goja.Promise, op goja.PromiseRejectionOperation) { s.run.rejection(p, op) })

	if err := s.guard(); err != nil {
		return nil, err
	}
	v, err := s.rt.RunProgram(sandboxCode)
	if err != nil {
		return nil, err
	}
	prepare, _ := goja.AssertFunction(v)
	facts, err := s.facts()
	if err != nil {
		return nil, err
	}
	made, err := prepare(goja.Undefined(), s.natives(), facts)
	if err != nil {
		return nil, err
	}
	o := made.(*goja.Object)
	s.inherited = make(map[string]bool)
	for _, name := range s.rt.NewObject().Prototype().GetOwnPropertyNames() {
		s.inherited[name] = true
	}
	s.words, s.uint8Array, s.date = o.Get("words").(*goja.Object), o.Get("uint8Array").(*goja.Object), o.Get("date").(*goja.Object)
	s.collect = s.rt.ToValue(func(c goja.FunctionCall) goja.Value {
		s.export = c.Argument(0)
		return goja.Undefined()
	})
	s.give, s.returned.token = s.rt.ToValue(s.gives), s.rt.NewObject()
	encode := s.rt.ToValue(func(c goja.FunctionCall) goja.Value {
		s.encoder.ok, s.encoder.err = s.encoder.value(c.Argument(0))
		return goja.Undefined()
	})
	if p.tests {
		o, err := (&bench{sandbox: s}).object()
		if err != nil {
			return nil, err
		}
		if err := s.collect.ToObject(s.rt).Set("bench", o); err != nil {
			return nil, err
		}
	}
	if v, err = s.rt.RunProgram(p.code); err != nil {
		return nil, err
	}
	ok := true
	for f, v := range map[*goja.Callable]goja.Value{
		&s.module: v, &s.show: o.Get("show"), &s.text: o.Get("text"),
		&s.keys: o.Get("keys"), &s.get: o.Get("get"), &s.define: o.Get("define"), &s.encode: encode,
		&s.freeze: o.Get("freeze"), &s.failure: o.Get("failure"),
	} {
		var isFunc bool
		*f, isFunc = goja.AssertFunction(v)
		ok = ok && isFunc
	}
	if !ok {
		return nil, errors.New("the sandbox lacks a function")
	}
	if _, err := s.freeze(goja.Undefined(), s.collect); err != nil { // scripts can name it
		return nil, err
	}
	return s, nil
}

// evaluate runs the script's top level afresh and returns its default export. If the
// top level holds no state it does so once.
func (s *sandbox) evaluate() (goja.Callable, error) {
	if s.script != nil {
		return s.script, nil
	}
	s.export = goja.Undefined()
	if _, err := s.module(goja.Undefined(), s.collect, s.give); err != nil {
		return nil, err
	}
	f, ok := goja.AssertFunction(s.export)
	if !ok {
		return nil, errors.New("the default export is not a function: write `export default function (event, ctx) { ... }`")
	}
	if s.run.program.stateless {
		s.script = f
	}
	return f, nil
}

// sandbox takes an idle sandbox or makes one.
func (p *program) sandbox() (*sandbox, error) {
	select {
	case s := <-p.idle:
		return s, nil
	default:
		return newSandbox(p)
	}
}

// keep puts a sandbox back for the next event, unless there are enough.
func (p *program) keep(s *sandbox) bool {
	s.run, s.export = nil, nil
	s.returned.forget()
	select {
	case p.idle <- s:
		return true
	default:
		return false
	}
}

var (
	promiseType = reflect.TypeFor[*goja.Promise]()
	bytesType   = reflect.TypeFor[[]byte]()
	timeType    = reflect.TypeFor[time.Time]()
)

// promiseOf returns the promise behind v, or nil. Export alone would copy every
// other object, and run its getters.
func promiseOf(v goja.Value) *goja.Promise {
	o, ok := v.(*goja.Object)
	if !ok || o.ExportType() != promiseType {
		return nil
	}
	p, _ := o.Export().(*goja.Promise)
	return p
}

// seeded are random numbers that depend on the delivery alone.
func seeded(deliveryID string) *rand.Rand {
	var seed [32]byte
	copy(seed[:], deliveryID) // a UUID has 36 characters, the last four fold in
	for i := len(seed); i < len(deliveryID); i++ {
		seed[i%len(seed)] ^= deliveryID[i]
	}
	return rand.New(rand.NewChaCha8(seed))
}
