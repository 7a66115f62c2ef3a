package target_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/hookline/hookline/plugins/target"
)

func TestAddress(t *testing.T) {
	for in, want := range map[string]string{
		"db.example.org":      "db.example.org:5432",
		"db.example.org:6000": "db.example.org:6000",
		"127.0.0.1":           "127.0.0.1:5432",
		"[::1]":               "[::1]:5432",
		"[::1]:6000":          "[::1]:6000",
		"":                    "",
		"db:0":                "",
		"db:99999":            "",
		"db:port":             "",
		"db:secret":           "",
		"a b":                 "",
		"tcp://db":            "",
	} {
		var bad target.Faults
		addr, _ := bad.Address("address", in, "5432")
		if want == "" {
			if err := bad.Err(); err == nil {
				t.Errorf("%q is taken as %s", in, addr)
			} else if strings.Contains(err.Error(), "secret") {
				t.Errorf("%q: the error shows the value: %v", in, err)
			}
			if err := bad.Err(); err != nil && (strings.Contains(err.Error(), "99999") || !strings.Contains(err.Error(), ":5432")) {
				t.Errorf("%q: the error repeats it: %v", in, err)
			}
		} else if bad.Err() != nil || addr != want {
			t.Errorf("%q: %s, %v; want %s", in, addr, bad.Err(), want)
		}
	}
}

func TestDecodeNamesTheField(t *testing.T) {
	for in, want := range map[string]string{
		`{"adress":"x"}`:             "adress: is not a setting of the mail transport",
		`{"address":7}`:              "address: must be text",
		`{"tls":{"ca_file":false}}`:  "tls.ca_file: must be text",
		`{"deny_addresses":"no"}`:    "deny_addresses: must be a list",
		`{"dial_timeout":5}`:         "dial_timeout: must be text",
		`{"address":"hunter2"} more`: "must be one JSON object",
		`[]`:                         "must be",
	} {
		into := struct {
			target.Network
			Address string     `json:"address"`
			TLS     target.TLS `json:"tls"`
		}{}
		err := target.Decode("mail", json.RawMessage(in), &into)
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v; want %s", in, err, want)
		}
	}
}

// Settings without tls are right, and make no source.
func TestNoTLS(t *testing.T) {
	var none *target.TLS
	var bad target.Faults
	none.Check(&bad)
	src, err := none.Source("db.example.org", 0)
	if bad.Err() != nil || err != nil || src != nil || src.Current() != nil {
		t.Errorf("%v, %v, %v", bad.Err(), src, err)
	}
}
