package postfix

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A Mail is what lies in a mailbox.
type Mail struct {
	ID   string // that it had in the queue
	Text []byte
}

var queueID = regexp.MustCompile(`(?m)^\s+by mail\.hookline\.test \(Postfix\).* id ([0-9A-Za-z]+)`)

// Mails waits until all mail that was confirmed has been delivered, and reads the
// mailbox of "in-NAME@hookline.test" in the order in which it came.
func (s *Server) Mails(name string) ([]Mail, error) {
	// Postfix moves mail from folder to folder, also to one that has just been looked at:
	// nothing waits if that is seen twice.
	end := time.Now().Add(patient)
	for empty := 0; empty < 2; time.Sleep(10 * time.Millisecond) { // a pace for the loop
		file, err := s.queued()
		switch {
		case err != nil:
			return nil, err
		case file == "":
			empty++
			continue
		case time.Now().After(end):
			return nil, fmt.Errorf("the Postfix in %s does not deliver %s: %s", s.dir, file, s.Log())
		}
		empty = 0
	}
	var out []Mail
	// One file for each recipient, all in one folder: Postfix does not let a pattern
	// decide where it writes.
	mine := []byte("\nDelivered-To: in-" + name + "@" + Domain + "\n")
	files, err := filepath.Glob(filepath.Join(s.dir, "mail", "all", "new", "*"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if head, _, _ := bytes.Cut(text, []byte("\n\n")); !bytes.Contains(head, mine) {
			continue
		}
		found := queueID.FindSubmatch(text)
		if found == nil {
			return nil, fmt.Errorf("%s has no id of the queue", file)
		}
		out = append(out, Mail{string(found[1]), text})
	}
	// Long ids begin with the time, and sort as bytes. A mail that was being delivered
	// when Postfix was killed is delivered once more: that is one mail.
	slices.SortFunc(out, func(a, b Mail) int { return cmp.Or(cmp.Compare(len(a.ID), len(b.ID)), strings.Compare(a.ID, b.ID)) })
	return slices.CompactFunc(out, func(a, b Mail) bool { return a.ID == b.ID }), nil
}

// queued finds confirmed mail that waits for its delivery. A file that cannot be
// executed, or in incoming one of a time to come, is being received or was given up
// by a kill before anything was confirmed.
func (s *Server) queued() (found string, err error) {
	for _, name := range []string{"maildrop", "incoming", "active", "deferred"} {
		err := filepath.WalkDir(filepath.Join(s.dir, "queue", name), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				info, infoErr := d.Info()
				err = infoErr
				received := name != "incoming" || err == nil && !info.ModTime().After(time.Now())
				if err == nil && info.Mode()&0o100 != 0 && received {
					found = fmt.Sprint(path, " of ", info.ModTime())
				}
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil // it was moved on
			}
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return found, nil
}
