package main

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf8"

	"github.com/hookline/hookline/core/admin"
)

// shown is content as people can read it.
type shown struct {
	Note   string // in its place, or about it
	Pretty string // JSON, indented; "" if it is none or looks so already
	Raw    string // as it is; what cannot be seen is escaped
	Hex    bool   // Raw is a dump
	Cut    string // how much is left out
}

// display makes at most limit bytes of content readable.
func display(c admin.Content, limit int) shown {
	b := c.Bytes()
	switch {
	case c.Pruned:
		return shown{Note: "deleted, as its age called for"}
	case len(b) == 0:
		return shown{Note: "empty"}
	}
	if !utf8.Valid(b) || bytes.ContainsFunc(b, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t' }) {
		const perLine = 16 // of a dump's bytes, which takes five times the room
		part := b[:min(len(b), max(perLine, limit/5/perLine*perLine))]
		return shown{Raw: hex.Dump(part), Hex: true, Cut: left(len(part), len(b))}
	}
	s := shown{Raw: string(b)}
	if json.Valid(b) {
		var out bytes.Buffer
		if json.Indent(&out, bytes.TrimSpace(b), "", "  ") == nil && out.String() != strings.TrimSpace(s.Raw) {
			s.Pretty = out.String()
		}
	}
	if len(b) > limit {
		s.Raw = strings.ToValidUTF8(s.Raw[:limit], "")
		s.Cut = left(len(s.Raw), len(b))
		s.Pretty = strings.ToValidUTF8(s.Pretty[:min(len(s.Pretty), limit)], "")
	} else if len(s.Pretty) > 4*limit {
		s.Pretty = "" // deep nesting makes it very long
	}
	s.Raw, s.Pretty = readable(s.Raw), readable(s.Pretty)
	return s
}

func left(have, all int) string {
	if have >= all {
		return ""
	}
	return fmt.Sprintf("the first %d of %d bytes; --json has all of them", have, all)
}

// readable is [printable] for text of several lines.
func readable(s string) string {
	var b strings.Builder
	for i, line := range strings.Split(s, "\n") {
		if i > 0 {
			b.WriteByte('\n')
		}
		for j, cell := range strings.Split(line, "\t") {
			if j > 0 {
				b.WriteByte('\t')
			}
			b.WriteString(printable(cell))
		}
	}
	return b.String()
}

// maxOnTerminal is how much of one content a terminal gets.
const maxOnTerminal = 16 << 10

// explainText writes an explanation for a terminal.
func explainText(out io.Writer, x *explained) error {
	var b bytes.Buffer
	if x.More {
		fmt.Fprintf(&b, "%s.\n\n", moreEvents)
	}
	for i, e := range x.Events {
		if i > 0 {
			b.WriteString("\n" + strings.Repeat("=", 80) + "\n\n")
		}
		explainEvent(&b, e)
	}
	for _, c := range configurations(x) {
		fmt.Fprintf(&b, "\nCONFIGURATION %s\n", printable(c.Revision))
		fmt.Fprintf(&b, "  %s\n", printable(inForce(c)))
		if c.Text != "" {
			b.WriteString("  What is (masked) is a secret, or may be one.\n")
			indented(&b, readable(c.Text))
		}
		for _, name := range slices.Sorted(maps.Keys(c.Lookups)) {
			fmt.Fprintf(&b, "  Lookup file %s: SHA-256 %s\n", printable(name), printable(c.Lookups[name]))
		}
	}
	for _, s := range sources(x) {
		fmt.Fprintf(&b, "\nSCRIPT %s\n", printable(s.SHA256))
		if s.Missing {
			b.WriteString("  The journal does not hold it.\n")
		} else {
			if s.Name != "" {
				fmt.Fprintf(&b, "  %s\n", printable(s.Name))
			}
			indented(&b, readable(s.Text))
			for _, f := range s.Files {
				fmt.Fprintf(&b, "  with %s\n", printable(f.Name))
				if !inPackage(f.Name) {
					indented(&b, readable(f.Text))
				}
			}
		}
	}
	_, err := b.WriteTo(out)
	return err
}

// inPackage tells a script's file that is nobody's here: its text would be long,
// and `hookline explain --json` has it.
func inPackage(file string) bool {
	return strings.HasPrefix(file, "node_modules/") || strings.Contains(file, "/node_modules/")
}

// configurations are those of all events, each once.
func configurations(x *explained) (all []admin.Configuration) {
	for _, e := range x.Events {
		for _, c := range e.Configurations {
			if !slices.ContainsFunc(all, func(had admin.Configuration) bool { return had.Revision == c.Revision && had.SHA256 == c.SHA256 }) {
				all = append(all, c)
			}
		}
	}
	return all
}

// sources are the scripts of all events, each once.
func sources(x *explained) (all []admin.Script) {
	for _, e := range x.Events {
		for _, s := range e.Scripts {
			if !slices.ContainsFunc(all, func(had admin.Script) bool { return had.SHA256 == s.SHA256 }) {
				all = append(all, s)
			}
		}
	}
	return all
}

// inForce says when a configuration was.
func inForce(c admin.Configuration) string {
	if c.AcceptedAt.IsZero() {
		return cmp.Or(c.Note, "when it was in force is not known")
	}
	s := fmt.Sprintf("accepted on node %s at %s", c.Node, c.AcceptedAt)
	switch {
	case !c.ReplacedAt.IsZero():
		s += fmt.Sprintf(", replaced at %s by %s", c.ReplacedAt, c.ReplacedBy)
	case c.Running:
		s += ", in force now"
	}
	return s + "; SHA-256 of its text " + c.SHA256
}

func explainEvent(w *bytes.Buffer, e *admin.Explanation) {
	line := func(label, format string, args ...any) {
		fmt.Fprintf(w, "%-14s %s\n", label, printable(fmt.Sprintf(format, args...)))
	}
	w.WriteString(printable(e.Headline) + "\n\n")
	for _, f := range eventFacts(e) {
		line(strings.ToLower(f.Name), "%s", f.Value)
	}
	for _, n := range e.Notes {
		line("note", "%s", n)
	}

	w.WriteString("\nTIMELINE (UTC)\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, m := range e.Timeline {
		row(t, "  "+m.At.String(), m.What, m.Text)
	}
	_ = t.Flush()

	for i := range e.Deliveries {
		explainDelivery(w, e, &e.Deliveries[i])
	}
	if others := unmatched(e); len(others) > 0 {
		w.WriteString("\nROUTES THAT DID NOT TAKE IT\n")
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, v := range others {
			row(t, "  "+v.Route, v.Failed, v.Why)
		}
		_ = t.Flush()
	}
	fmt.Fprintf(w, "\nRECEIVED, %s\n", printable(measure(e.Body)))
	write(w, e.Body)
}

// fact is a line about an event or a delivery.
type fact struct{ Name, Value string }

func eventFacts(e *admin.Explanation) (all []fact) {
	add := func(name, format string, args ...any) {
		if value := fmt.Sprintf(format, args...); value != "" {
			all = append(all, fact{name, value})
		}
	}
	add("Event", "%s", e.ID)
	add("Reference", "%s", e.Ref)
	add("Hook", "%s", e.Hook)
	add("Study", "%s", e.Study)
	add("Stage", "%s", e.Stage)
	if e.Refused == nil {
		add("Record", "%s", e.TransID)
		add("Kind", "%s", e.Kind)
		add("Form", "%s", strings.TrimSpace(e.FormID+" "+e.FormName))
		add("Review level", "%s", strings.TrimSpace(e.WorkflowID+" "+e.WorkflowName))
	}
	add("Received", "%s", e.ReceivedAt)
	if a := e.Answer; a != nil {
		add("Answered", "%d %s at %s", a.Status, a.Code, a.At)
		if a.GoneMS > 0 {
			add("Hung up", "the caller did not wait: after %s", milliseconds(a.GoneMS))
		}
		add("Told", "%s", a.Detail)
	} else {
		add("Answered", "not, or not yet")
	}
	add("Second run of", "%s", e.Origin)
	add("Configuration", "%s", e.Revision)
	add("Traceparent", "%s", e.TraceParent)
	return all
}

func unmatched(e *admin.Explanation) (out []admin.RouteVerdict) {
	for _, v := range e.Routes {
		if !v.Matched {
			out = append(out, v)
		}
	}
	return out
}

func deliveryFacts(e *admin.Explanation, d *admin.ExplainedDelivery) (all []fact) {
	add := func(name, value string) {
		if value != "" {
			all = append(all, fact{name, value})
		}
	}
	add("Delivery", d.ID)
	add("State", stateAndCode(&d.Delivery))
	add("Reason", d.Reason)
	add("Script position", d.Position)
	add("Route", d.Route)
	add("Matched because", d.Why)
	if d.Transport != "" {
		add("Transport", fmt.Sprintf("%s, plugin %s, called %q", d.Transport, d.Plugin, d.Label))
	}
	switch {
	case d.ScriptInferred:
		add("Script", d.ScriptPath+", SHA-256 "+d.Script+", by the configuration: which version ran is not on record, as it made no message")
	case d.Script != "":
		add("Script", strings.TrimPrefix(d.ScriptPath+", SHA-256 "+d.Script, ", "))
	case d.SentAsItCame:
		add("Script", "none: the event is sent as it came")
	}
	add("Configuration", cmp.Or(d.ShapedUnder, e.Revision))
	add("Placed", d.CreatedAt.String())
	if !d.EndedAt.IsZero() {
		add("Ended", d.EndedAt.String())
	}
	return all
}

func explainDelivery(w *bytes.Buffer, e *admin.Explanation, d *admin.ExplainedDelivery) {
	fmt.Fprintf(w, "\nDELIVERY TO %s\n", printable(d.Label))
	for _, f := range deliveryFacts(e, d) {
		fmt.Fprintf(w, "  %-16s %s\n", strings.ToLower(f.Name), printable(f.Value))
	}
	if note := readNote(d); note != "" {
		fmt.Fprintf(w, "  read: %s\n", printable(note))
	}
	if d.Read != nil {
		write(w, d.Read.Content)
	}
	if text := logged(d); text != "" {
		w.WriteString("  logged by the script:\n")
		indented(w, text)
	}
	printHistory(w, d.History)
	for _, n := range slices.Sorted(maps.Keys(d.Replies)) {
		r := d.Replies[n]
		fmt.Fprintf(w, "  answer to attempt %d, %s\n", n, printable(replied(r)))
		write(w, r.Content)
	}
	printActs(w, d.Acts)
	if note := sentNote(e, d); note != "" {
		fmt.Fprintf(w, "  sent: %s\n", printable(note))
	}
	for _, m := range d.Sent {
		fmt.Fprintf(w, "  sent: message %s, %s, %s\n", printable(m.ID), printable(m.ContentType), printable(measure(m.Payload)))
		for _, f := range addressing(m) {
			fmt.Fprintf(w, "    %s: %s\n", printable(f.Name), printable(f.Value))
		}
		write(w, m.Payload)
	}
}

// readNote says when the record was read, or why it is not there.
func readNote(d *admin.ExplainedDelivery) string {
	switch {
	case d.Read != nil:
		return fmt.Sprintf("the record as TrialKit gave it at %s, %s", d.Read.At, measure(d.Read.Content))
	case d.ReadPruned:
		return "the record of this event was deleted, as its age called for"
	}
	return ""
}

// logged are the lines of the script.
func logged(d *admin.ExplainedDelivery) string {
	var lines []string
	for line := range strings.SplitSeq(strings.Join(d.Logs, "\n"), "\n") {
		lines = append(lines, printable(line))
	}
	return strings.Join(lines, "\n")
}

// sentNote says what stands for the messages that are not shown.
func sentNote(e *admin.Explanation, d *admin.ExplainedDelivery) string {
	switch {
	case d.SentAsItCame && e.Body.Pruned:
		return "the bytes as they were received, which were deleted, as their age called for"
	case d.SentAsItCame:
		return "the bytes as they were received, " + measure(e.Body)
	case d.SentPruned && len(d.Sent) == 0:
		return "deleted, as its age called for"
	case len(d.Sent) == 0:
		return "nothing was made to send"
	}
	return ""
}

func addressing(m admin.Sent) (all []fact) {
	if m.Key != "" {
		all = append(all, fact{"key", m.Key})
	}
	if m.Path != "" {
		all = append(all, fact{"path", m.Path})
	}
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		all = append(all, fact{"header " + name, m.Headers[name]})
	}
	return all
}

func replied(r admin.Reply) string {
	s := measure(r.Content)
	if r.ContentType != "" {
		s = r.ContentType + ", " + s
	}
	if r.Truncated {
		s = "the beginning of it, " + s
	}
	return s
}

func measure(c admin.Content) string {
	if c.Pruned {
		return "deleted"
	}
	s := strconv.Itoa(c.Size) + " bytes"
	if c.SHA256 != "" {
		s += ", SHA-256 " + c.SHA256
	}
	return s
}

// write shows content on a terminal: JSON indented, and anything else as it is.
func write(w *bytes.Buffer, c admin.Content) {
	s := display(c, maxOnTerminal)
	if s.Note != "" {
		fmt.Fprintf(w, "    %s\n", s.Note)
		return
	}
	indented(w, s.Raw)
	if s.Pretty != "" {
		w.WriteString("  the same, indented\n")
		indented(w, s.Pretty)
	}
	if s.Cut != "" {
		fmt.Fprintf(w, "    (%s)\n", s.Cut)
	}
}

// indented marks each line, so that no content looks like what Hookline says.
func indented(w *bytes.Buffer, text string) {
	for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
		w.WriteString("    | " + line + "\n")
	}
}
