package mllp_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/hookline/hookline/plugins/mllp"
)

const msh = `MSH|^~\&|A|B|C|D|20260102||ADT^A08|id-1|P|2.5`

func TestMessages(t *testing.T) {
	withSet := func(set string) string { return msh + "||||||" + set + "\r" }
	for _, c := range []struct {
		name, payload, want string // want "": refused
		settings            obj
	}{
		{"as it is", msh + "\rPID|1\r", msh + "\rPID|1\r", nil},
		{"no last CR", msh + "\rPID|1", msh + "\rPID|1\r", nil},
		{"line feeds", msh + "\nPID|1\r\nNTE|é\n", msh + "\rPID|1\rNTE|é\r", nil},
		{"line feeds are not converted", msh + "\nPID|1\n", "", obj{"convert_line_ends": false}},
		{"CR only", msh + "\rPID|1\r", msh + "\rPID|1\r", obj{"convert_line_ends": false}},
		{"other separators", "MSH#*~\\&#A#B#C#D###ADT*A08#id-1#P#2.5\r", "MSH#*~\\&#A#B#C#D###ADT*A08#id-1#P#2.5\r", nil},
		{"latin 1", msh + "\rNTE|é\r", msh + "\rNTE|\xe9\r", obj{"charset": "iso-8859-1"}},
		{"not in latin 1", msh + "\rNTE|secret €\r", "", obj{"charset": "iso-8859-1"}},
		{"the euro", msh + "\rNTE|€\r", msh + "\rNTE|\x80\r", obj{"charset": "windows-1252"}},
		{"not in ASCII", msh + "\rNTE|secret é\r", "", obj{"charset": "ascii"}},
		{"ASCII", msh + "\rNTE|e\r", msh + "\rNTE|e\r", obj{"charset": "ascii"}},
		{"MSH-18 says so", withSet("8859/1"), withSet("8859/1"), obj{"charset": "iso-8859-1"}},
		{"MSH-18 says so and more", withSet("8859/1~ISO IR87"), withSet("8859/1~ISO IR87"), obj{"charset": "iso-8859-1"}},
		{"MSH-18 says something else", withSet("8859/1"), "", nil},
		{"MSH-18 says ASCII, and it is", withSet("ASCII"), withSet("ASCII"), nil},
		{"MSH-18 says ASCII, and it is not", withSet("ASCII") + "NTE|secret é", "", nil},
		{"not UTF-8", msh + "\rNTE|secret\xff", "", nil},
		{"a start block", msh + "\rNTE|secret\x0b\r", "", nil},
		{"an end block", msh + "\rNTE|secret\x1c\r", "", nil},
		{"no control id", `MSH|^~\&|A|B|C|D|20260102||ADT^A08||P|2.5` + "\r", "", nil},
		{"a null control id", `MSH|^~\&|A|B|C|D|20260102||ADT^A08|""|P|2.5` + "\r", "", nil},
		{"a short header", `MSH|^~\&|A` + "\r", "", nil},
		{"a batch", "BHS|^~\\&|secret\r" + msh + "\r", "", nil},
		{"JSON", `{"name":"secret"}`, "", nil},
		{"nothing", "", "", nil},
		{"MSH alone", "MSH", "", nil},
		{"a letter separates", "MSHxsecretx\r", "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := obj{"address": "127.0.0.1:1"}
			for k, v := range c.settings {
				s[k] = v
			}
			frame, err := configured(t, s).Message([]byte(c.payload))
			if c.want == "" {
				if err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\n") {
					t.Errorf("%q, %v", frame, err)
				}
			} else if want := "\x0b" + c.want + "\x1c\r"; err != nil || string(frame) != want {
				t.Errorf("%q, %v; want %q", frame, err, want)
			}
		})
	}
}

// What a receiver says is a stranger's: it must be read without a panic, and only a
// code of the standard's comes out.
func FuzzAck(f *testing.F) {
	f.Add([]byte("MSH|^~\\&|A|B|C|D|20260102||ACK|1|P|2.5\rMSA|AA|id-1\r"))
	f.Add([]byte("MSH|^~\\&|\rMSA|AE|id-1||||207^x\rERR|PID^1^5^101&x~^^^102|x|103^y\r"))
	f.Add([]byte("MSH|^~\\&|\nMSA\nERR\nMSA|AA"))
	f.Add([]byte("MSH||||||"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		code, errs, err := mllp.Ack(raw, "id-1")
		if err != nil {
			return
		}
		if !slices.Contains([]string{"AA", "AE", "AR", "CA", "CE", "CR"}, code) {
			t.Errorf("code %q", code)
		}
		for _, e := range errs {
			if len(e) != 3 || strings.Trim(e, "0123456789") != "" {
				t.Errorf("error %q", e)
			}
		}
	})
}
