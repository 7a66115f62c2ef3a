package transforms

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/dop251/goja"
	"github.com/google/uuid"
)

// What follows are the functions of ctx.crypto and ctx.base64. An argument that is
// unfit is a TypeError, which has the script's position.

// octets are the bytes of a string, in UTF-8, or of a Uint8Array.
func (s *sandbox) octets(function, what string, v goja.Value) []byte {
	if goja.IsString(v) {
		return []byte(v.String())
	}
	if o, ok := v.(*goja.Object); ok && o.ExportType() == bytesType {
		b, _ := o.Export().([]byte)
		return b
	}
	panic(s.rt.NewTypeError("%s: the %s must be a string or a Uint8Array, but is %s", function, what, kindOf(v)))
}

// kindOf names what a value is, and never its contents.
func kindOf(v goja.Value) string {
	switch {
	case v == nil || goja.IsUndefined(v):
		return "undefined"
	case goja.IsNull(v):
		return "null"
	case goja.IsString(v):
		return "a string"
	case goja.IsBigInt(v):
		return "a BigInt"
	case goja.IsNumber(v):
		return "a number"
	}
	o, ok := v.(*goja.Object)
	if !ok {
		if _, ok := v.(*goja.Symbol); ok {
			return "a symbol"
		}
		return "a boolean"
	}
	switch {
	case promiseOf(v) != nil:
		return "a promise: write await before it"
	case o.ClassName() == "Array":
		return "an array"
	case o.ClassName() == "Function":
		return "a function"
	}
	return "an object"
}

// encoded writes a digest as the script asks for it.
func (s *sandbox) encoded(function string, sum []byte, encoding goja.Value) goja.Value {
	if goja.IsUndefined(encoding) {
		return s.rt.ToValue(hex.EncodeToString(sum))
	}
	if goja.IsString(encoding) {
		switch encoding.String() {
		case "hex":
			return s.rt.ToValue(hex.EncodeToString(sum))
		case "base64":
			return s.rt.ToValue(base64.StdEncoding.EncodeToString(sum))
		case "base64url":
			return s.rt.ToValue(base64.RawURLEncoding.EncodeToString(sum))
		}
	}
	panic(s.rt.NewTypeError(`%s: the encoding must be "hex", "base64" or "base64url"`, function))
}

func (s *sandbox) sha256(c goja.FunctionCall) goja.Value {
	const function = "ctx.crypto.sha256"
	sum := sha256.Sum256(s.octets(function, "data", c.Argument(0)))
	return s.encoded(function, sum[:], c.Argument(1))
}

func (s *sandbox) hmac(c goja.FunctionCall) goja.Value {
	const function = "ctx.crypto.hmac"
	key := s.octets(function, "key", c.Argument(0))
	if len(key) == 0 {
		panic(s.rt.NewTypeError("%s: the key is empty, so anybody could make this code", function))
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(s.octets(function, "data", c.Argument(1)))
	return s.encoded(function, mac.Sum(nil), c.Argument(2))
}

// uuid depends on the delivery and on how many random numbers were drawn before:
// it is the same when the delivery runs again.
func (s *sandbox) uuid(goja.FunctionCall) goja.Value {
	var id uuid.UUID
	r := s.run.source()
	for i := 0; i < len(id); i += 8 {
		n := r.Uint64()
		for j := range 8 {
			id[i+j] = byte(n >> (8 * j))
		}
	}
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return s.rt.ToValue(id.String())
}

func (s *sandbox) base64Encode(c goja.FunctionCall) goja.Value {
	return s.rt.ToValue(base64.StdEncoding.EncodeToString(s.octets("ctx.base64.encode", "data", c.Argument(0))))
}

func (s *sandbox) base64EncodeURL(c goja.FunctionCall) goja.Value {
	return s.rt.ToValue(base64.RawURLEncoding.EncodeToString(s.octets("ctx.base64.encodeUrl", "data", c.Argument(0))))
}

func (s *sandbox) base64Decode(c goja.FunctionCall) goja.Value {
	const function = "ctx.base64.decode"
	b := s.fromBase64(function, c.Argument(0))
	if !utf8.Valid(b) {
		panic(s.rt.NewTypeError("%s: the bytes are no text in UTF-8: use ctx.base64.decodeBytes", function))
	}
	return s.rt.ToValue(string(b))
}

func (s *sandbox) base64DecodeBytes(c goja.FunctionCall) goja.Value {
	b := s.fromBase64("ctx.base64.decodeBytes", c.Argument(0))
	array, err := s.rt.New(s.uint8Array, s.rt.ToValue(s.rt.NewArrayBuffer(b)))
	if err != nil {
		panic(err)
	}
	return array
}

func (s *sandbox) fromBase64(function string, v goja.Value) []byte {
	if !goja.IsString(v) {
		panic(s.rt.NewTypeError("%s: the text must be a string, but is %s", function, kindOf(v)))
	}
	b, err := decodeBase64(v.String())
	if err != nil {
		panic(s.rt.NewTypeError("%s: %s", function, err.Error()))
	}
	return b
}

// decodeBase64 takes both alphabets of RFC 4648, but not both in one text, with the
// right padding or none. Each byte string has one text: bits that are left over
// must be zero.
func decodeBase64(text string) ([]byte, error) {
	bare := strings.TrimRight(text, "=")
	if padding := len(text) - len(bare); padding > 0 && (padding > 2 || len(text)%4 != 0) {
		return nil, fmt.Errorf("the padding of the base64 text is wrong")
	}
	encoding := base64.RawStdEncoding
	if strings.ContainsAny(bare, "-_") {
		encoding = base64.RawURLEncoding
	}
	if strings.ContainsAny(bare, "\r\n") { // Go would skip them
		return nil, fmt.Errorf("the base64 text has a line break: remove it before, with replace(/\\s/g, \"\")")
	}
	b, err := encoding.Strict().DecodeString(bare)
	if err != nil {
		return nil, fmt.Errorf("this is not base64 (RFC 4648)")
	}
	return b, nil
}
