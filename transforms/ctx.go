package transforms

import (
	"errors"
	"math"
	"time"

	"github.com/dop251/goja"
)

// natives are the functions of a script's context that are written in Go. Each
// names itself in its errors.
func (s *sandbox) natives() *goja.Object {
	o := s.rt.NewObject()
	for name, f := range map[string]func(goja.FunctionCall) goja.Value{
		"log":    func(c goja.FunctionCall) goja.Value { return s.run.log(c) },
		"skip":   func(c goja.FunctionCall) goja.Value { return s.run.say(skipped, c) },
		"reject": func(c goja.FunctionCall) goja.Value { return s.run.say(rejected, c) },

		"message": s.message,
		"sha256":  s.sha256, "hmac": s.hmac, "uuid": s.uuid,
		"encode": s.base64Encode, "encodeUrl": s.base64EncodeURL, "decode": s.base64Decode, "decodeBytes": s.base64DecodeBytes,
		"format": s.dateFormat, "parse": s.dateParse,
		"lookup": s.lookup, "secret": s.secret, "get": s.trialkitGet,
	} {
		_ = o.Set(name, s.function(name, f)) // cannot fail on a new object
	}
	return o
}

// facts are functions that tell what ctx says of the event; they become getters.
func (s *sandbox) facts() (*goja.Object, error) {
	o := s.rt.NewObject()
	for _, f := range fields {
		if err := o.Set(f.name, func(goja.FunctionCall) goja.Value { return f.get(s.run) }); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// function makes a function of JavaScript. Without a name, Go's own for it would
// stand in stacks.
func (s *sandbox) function(name string, f func(goja.FunctionCall) goja.Value) *goja.Object {
	o := s.rt.ToValue(f).(*goja.Object)
	// It cannot fail on a new function.
	_ = o.DefineDataProperty("name", s.rt.ToValue(name), goja.FLAG_FALSE, goja.FLAG_TRUE, goja.FLAG_FALSE)
	return o
}

// secret is ctx.secret.
func (s *sandbox) secret(c goja.FunctionCall) goja.Value {
	name := c.Argument(0)
	if !goja.IsString(name) {
		panic(s.rt.NewTypeError("ctx.secret: the name must be a string, but is %s", kindOf(name)))
	}
	secrets := s.run.program.given.secrets
	value, ok := secrets[name.String()]
	if !ok {
		panic(s.rt.NewTypeError("ctx.secret: there is no secret %.60q; %s", name.String(), known("routes."+s.run.req.GetRoute()+".secrets", "grants", secrets)))
	}
	return s.rt.ToValue(value)
}

// dateFormat is ctx.date.format.
func (s *sandbox) dateFormat(c goja.FunctionCall) goja.Value {
	const function = "ctx.date.format"
	milliseconds := math.NaN()
	switch v := c.Argument(0); {
	case goja.IsNumber(v):
		milliseconds = v.ToFloat()
	default:
		o, ok := v.(*goja.Object)
		if !ok || o.ExportType() != timeType {
			panic(s.rt.NewTypeError("%s: the date must be a Date or a number of milliseconds, but is %s", function, kindOf(v)))
		}
		if t, ok := o.Export().(time.Time); ok {
			milliseconds = float64(t.UnixMilli())
		}
	}
	pattern := s.pattern(function, c.Argument(1))
	zone := s.zone(function, c.Argument(2))
	if pattern == nil {
		pattern = rfc3339
	}
	if zone == nil {
		zone = time.UTC
	}
	text, err := formatDate(milliseconds, pattern, zone)
	if err != nil {
		panic(s.rt.NewTypeError("%s: %s", function, err.Error()))
	}
	return s.rt.ToValue(text)
}

// dateParse is ctx.date.parse.
func (s *sandbox) dateParse(c goja.FunctionCall) goja.Value {
	const function = "ctx.date.parse"
	text := c.Argument(0)
	if !goja.IsString(text) {
		panic(s.rt.NewTypeError("%s: the text must be a string, but is %s", function, kindOf(text)))
	}
	pattern := s.pattern(function, c.Argument(1))
	zone := s.zone(function, c.Argument(2))
	var t time.Time
	var err error
	if pattern == nil {
		t, err = parseRFC3339(text.String(), zone)
	} else {
		if zone == nil {
			zone = time.UTC
		}
		t, err = pattern.parse(text.String(), zone)
	}
	if err != nil {
		panic(s.rt.NewTypeError("%s: %s", function, err.Error()))
	}
	return s.newDate(t)
}

func (s *sandbox) newDate(t time.Time) goja.Value {
	date, err := s.rt.New(s.date, s.rt.ToValue(t.UnixMilli()))
	if err != nil {
		panic(err)
	}
	return date
}

// pattern is nil if the script gives none.
func (s *sandbox) pattern(function string, v goja.Value) datePattern {
	if goja.IsUndefined(v) {
		return nil
	}
	if !goja.IsString(v) {
		panic(s.rt.NewTypeError("%s: the pattern must be a string, but is %s", function, kindOf(v)))
	}
	p, err := parsePattern(v.String())
	if err != nil {
		panic(s.rt.NewTypeError("%s: %s", function, err.Error()))
	}
	return p
}

// zone is nil if the script gives none.
func (s *sandbox) zone(function string, v goja.Value) *time.Location {
	if goja.IsUndefined(v) {
		return nil
	}
	if !goja.IsString(v) {
		panic(s.rt.NewTypeError("%s: the zone must be a string, but is %s", function, kindOf(v)))
	}
	zone, err := zoneNamed(v.String())
	if err != nil {
		panic(s.rt.NewTypeError("%s: %s", function, err.Error()))
	}
	return zone
}

// trialkitGet is ctx.trialkit.get: a promise, so that a script is written as one
// reads from afar. It has settled when the function returns.
func (s *sandbox) trialkitGet(c goja.FunctionCall) goja.Value {
	promise, resolve, reject := s.rt.NewPromise()
	fail := func(code, text string) goja.Value {
		e, err := s.failure(goja.Undefined(), s.rt.ToValue(code), s.rt.ToValue(text))
		if err == nil {
			err = reject(e)
		}
		if err != nil {
			panic(err)
		}
		return s.rt.ToValue(promise)
	}
	path := c.Argument(0)
	if !goja.IsString(path) {
		return fail("invalid_path", "ctx.trialkit.get: the path must be a string, but is "+kindOf(path))
	}
	answer, err := s.run.ask(path.String())
	var refused *callError
	switch {
	case errors.As(err, &refused):
		return fail(refused.code, "ctx.trialkit.get: "+refused.text)
	case err != nil: // the script is interrupted
		return goja.Undefined()
	}
	value, err := s.decode(answer, false)
	if err != nil {
		return fail("invalid_answer", "ctx.trialkit.get: what TrialKit answered cannot be read: "+err.Error())
	}
	if err := resolve(value); err != nil {
		panic(err)
	}
	return s.rt.ToValue(promise)
}
