package main

import (
	"bufio"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hookline/hookline/core"
)

// TestAudit: what is done is on record, also who looked; a row that is altered
// behind Hookline's back is named, by the daemon and without it.
func TestAudit(t *testing.T) {
	s := newSite(t, "")
	s.start()
	s.send(`{"OnUpdate": true, "trans_id": "435", "form_id": "7"}`)
	a := s.send(`{"OnInsert": true, "trans_id": "436", "form_id": "7"}`)
	s.await(a.Ref, "lab", core.StateDelivered)
	s.answered(a.Ref)
	s.good("events", "show", a.Ref, "--body")
	if out := s.good("audit", "verify"); !strings.Contains(out, "all is as it was written") || !strings.Contains(out, "head of ") {
		t.Fatal(out)
	}
	if out := s.good("audit", "verify", "--json"); !strings.Contains(out, `"took_ms": `) {
		t.Error(out)
	}
	s.write("[hooks")
	if code, _, _ := s.run("reload"); code == 0 {
		t.Fatal("a bad configuration was taken")
	}
	trail := s.good("audit", "export")
	for _, entry := range []string{
		`"t":"start"`, `"t":"config"`, `"t":"event","event":"` + a.EventID + `"`, `"t":"answer"`, `"state":"delivered"`,
		`"t":"view","event":"` + a.EventID + `"`, `"act":"audit verify"`, `"t":"load"`, `"attempts":{"1":`,
	} {
		if !strings.Contains(trail, entry) {
			t.Errorf("%s is not in the audit:\n%s", entry, trail)
		}
	}
	for _, content := range []string{"trans_id", `"435"`} {
		if strings.Contains(trail, content) {
			t.Errorf("the audit holds contents: %s", content)
		}
	}
	chained(t, trail)

	s.daemon.stop()
	file := filepath.Join(filepath.Dir(s.file), "hookline.db")
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("update deliveries set state = 'dead' where state = 'delivered' and route = 'lab' and event_seq = 2"); err != nil {
		t.Fatal(err)
	}
	_ = db.Close()
	code, out, errs := s.run("audit", "verify", "--journal", "sqlite:"+file)
	if code != 1 || !strings.Contains(out, "altered: deliveries ") || !strings.Contains(out, "it was delivered, and says dead (delivered) now (event "+a.EventID+")") || !strings.Contains(out, "NOT as it was written: 1 finding\n") {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	for bad, want := range map[string]int{"sqlite:" + file + ".none": 3, "http://x": 2, "postgres://127.0.0.1:1/x": 3} {
		if code, out, errs := s.run("audit", "verify", "--journal", bad); code != want || out != "" || !strings.Contains(errs, "journal") {
			t.Errorf("%s: exit %d\n%s%s", bad, code, out, errs)
		}
	}
}

// chained checks the hashes of an export as docs/audit.md tells to, with nothing of
// Hookline's.
func chained(t *testing.T, trail string) {
	t.Helper()
	heads := map[string][]byte{}
	lines := bufio.NewScanner(strings.NewReader(trail))
	lines.Buffer(nil, 1<<20)
	n := 0
	for ; lines.Scan(); n++ {
		var r struct {
			Chain   string
			N       int64
			AtMicro int64 `json:"at_us"`
			Hash    string
			Entries []json.RawMessage
		}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		parts := make([]string, len(r.Entries))
		for i, e := range r.Entries {
			parts[i] = string(e)
		}
		entries := strings.Join(parts, "\n")
		before := heads[r.Chain]
		if before == nil {
			before = make([]byte, 32)
		}
		text := string(before) + "s" + string(binary.AppendUvarint(nil, uint64(len(r.Chain)))) + r.Chain +
			fmt.Sprintf("i%d;i%d;", r.N, r.AtMicro) + "b" + string(binary.AppendUvarint(nil, uint64(len(entries)))) + entries
		sum := sha256.Sum256([]byte(text))
		if base64.RawURLEncoding.EncodeToString(sum[:]) != r.Hash {
			t.Fatalf("row %d of %s does not follow the one before", r.N, r.Chain)
		}
		heads[r.Chain] = sum[:]
	}
	if n < 5 {
		t.Fatalf("%d rows", n)
	}
}
