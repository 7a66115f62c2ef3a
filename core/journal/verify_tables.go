package journal

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

func (v *verifier) eventRows() error {
	const text = `select id, ref, hook, study, stage, kind, trans_id, form_id, form_name, wf_id, wf_name, received_at,
		traceparent, revision, origin, refused_code, refused_key, refused_rule, seq, pruned, salt, body from events`
	return v.read(text, func(r row) {
		v.Rows++
		id := r.str(0)
		e := v.event(id)
		if !r.null(20) {
			e.salt = r.bytes(20)
		}
		v.eventAt[r.int(18)] = e
		if e.row == "" {
			e.seen = true
			if r.int(18) <= v.before.EventSeq {
				v.Before++
				return
			}
			v.find("extra", "events", id, "nobody has written it (hook %s, received at %s)", r.str(2), clock(r.int(11)))
			return
		}
		if e.seen {
			v.find("extra", "events", id, "it is there twice")
			return
		}
		e.seen = true
		pruned := int(r.int(19))
		switch {
		case e.gone:
			v.find("extra", "events", id, "it was pruned, and is there again")
		case digest(nil, r[:18]...) != e.row:
			v.find("altered", "events", id, "what it says of its hook, record, form or time is not what came")
		case pruned != e.pruned:
			v.find("altered", "events", id, "its mark of what was pruned is %d, and the audit says %d", pruned, e.pruned)
		case e.pruned&prunedBody != 0 && len(r.bytes(21)) > 0:
			v.find("altered", "events", id, "its body was pruned, and is there again")
		case e.pruned&prunedBody == 0 && digest(r.bytes(20), r.bytes(21)) != e.text:
			v.find("altered", "events", id, "its body, or the salt of its digests, is not what came")
		}
		if e.refused { // else its deliveries have its number in their digests
			v.put("events", e.spot, r.int(18), id)
		}
		if e.pruned != 0 {
			v.Pruned++
		}
	})
}

func (v *verifier) deliveryRows() error {
	return v.read(`select `+deliveryAlone+` from deliveries d`, func(r row) {
		v.Rows++
		id := r.str(auID)
		d := v.deliveries[id]
		extra := d == nil
		if extra {
			d = &auditedDelivery{id: id}
			v.deliveries[id] = d
		}
		v.deliveryAt[r.int(auSeq)] = d
		d.hook = r.str(auHook)
		if d.of = v.eventAt[r.int(auEventSeq)]; d.of != nil {
			r[auEvent], r[len(r)-1] = d.of.id, d.of.salt
		}
		if extra {
			d.seen, d.event = true, r.str(auEvent)
			if r.int(auSeq) <= v.before.DeliverySeq {
				v.Before++
				return
			}
			v.find("extra", "deliveries", id, "nobody has written it (event %s, route %s)", r.str(auEvent), r.str(auRoute))
			return
		}
		if d.seen {
			v.find("extra", "deliveries", id, "it is there twice")
			return
		}
		d.seen = true
		now := deliveryEntry(r)
		salted := d.of != nil && d.of.salt != nil // else its contents' digests mean nothing any more
		said := now.Text == d.text || !salted
		if d.of != nil && d.of.pruned&prunedSent != 0 {
			said = now.Text == ""
		}
		switch {
		case now.Row == d.row && said:
		case now.Row == d.row && d.of.pruned&prunedSent != 0:
			v.find("altered", "deliveries", id, "what was said of it was pruned, and is there again (event %s)", d.event)
		case now.State != d.state || now.Code != d.code:
			v.find("altered", "deliveries", id, "it was %s, and says %s now (event %s)", told(d.state, d.code), told(now.State, now.Code), d.event)
		case now.Version > d.version:
			v.find("altered", "deliveries", id, "it has version %d, and the audit ends at %d: it was changed, or the end of the audit is gone", now.Version, d.version)
		default:
			v.find("altered", "deliveries", id, "it is not what was written with version %d, as %s (event %s)", d.version, told(d.state, d.code), d.event)
		}
	})
}

func told(state, code string) string {
	if code == "" || code == state {
		return state
	}
	return state + " (" + code + ")"
}

func (v *verifier) answerRows() error {
	return v.read(`select event_seq, status, code, detail, gone_us, at from answers`, func(r row) {
		v.Rows++
		e := v.eventAt[r.int(0)]
		switch {
		case e == nil:
			v.find("extra", "answers", strconv.FormatInt(r.int(0), 10), "its event is not there")
			return
		case e.answer == "":
			if r.int(0) <= v.before.EventSeq {
				v.Before++
				return
			}
			v.find("extra", "answers", e.id, "nobody has given it")
		case e.answered:
			v.find("extra", "answers", e.id, "it is there twice")
		case e.salt != nil && digest(e.salt, r[1:6]...) != e.answer:
			v.find("altered", "answers", e.id, "it is not what the caller was told, which was %s", e.code)
		}
		e.answered = true
	})
}

// of is the delivery with this seq, the salt of its event, and whether what it sent
// was pruned.
func (v *verifier) of(seq int64) (d *auditedDelivery, salt []byte, pruned bool) {
	if d = v.deliveryAt[seq]; d != nil && d.of != nil {
		salt, pruned = d.of.salt, d.of.pruned&prunedSent != 0
	}
	return d, salt, pruned
}

func (v *verifier) attemptRows() error {
	const text = `select delivery_seq, n, message, started_at, took_us, effect, code, target_status, reply_type,
		reply, truncated, retry_after_us, detail from attempts`
	return v.read(text, func(r row) {
		v.Rows++
		n := int(r.int(1))
		d, salt, pruned := v.of(r.int(0))
		if d == nil {
			v.find("extra", "attempts", fmt.Sprintf("%d/%d", r.int(0), n), "its delivery is not there")
			return
		}
		id := fmt.Sprintf("%s/%d", d.id, n)
		want := d.attempts[n]
		values := r[1:13]
		values[8] = r.bytes(9)
		switch {
		case want == "":
			if r.int(0) <= v.before.DeliverySeq {
				v.Before++
				return
			}
			v.find("extra", "attempts", id, "nobody has made it")
		case pruned && (len(r.bytes(9)) > 0 || r.str(12) != ""):
			v.find("altered", "attempts", id, "what the target said was pruned, and is there again")
		case !pruned && digest(salt, values...) != want:
			v.find("altered", "attempts", id, "it is not what was written of it")
		}
		delete(d.attempts, n)
	})
}

func (v *verifier) messageRows() error {
	const text = `select delivery_seq, n, content_type, headers, key, path, payload from messages`
	return v.read(text, func(r row) {
		v.Rows++
		n := int(r.int(1))
		d, salt, pruned := v.of(r.int(0))
		if d == nil {
			v.find("extra", "messages", fmt.Sprintf("%d/%d", r.int(0), n), "its delivery is not there")
			return
		}
		id := fmt.Sprintf("%s/%d", d.id, n)
		switch {
		case pruned:
			v.find("extra", "messages", id, "it was pruned, and is there again")
		case n < 0 || n >= len(d.messages) || d.messages[n] == "":
			if r.int(0) <= v.before.DeliverySeq {
				v.Before++
				return
			}
			v.find("extra", "messages", id, "nobody has written it")
		default:
			if digest(salt, r.int(1), r.str(2), r.str(3), r.bytes(4), r.bytes(5), r.bytes(6)) != d.messages[n] {
				v.find("altered", "messages", id, "it is not what was sent")
			}
			d.messages[n] = ""
		}
	})
}

func (v *verifier) snapshotRows() error {
	return v.read(`select delivery_seq, event_seq, hook, read_at, record from snapshots`, func(r row) {
		v.Rows++
		d := v.deliveryAt[r.int(0)]
		if d == nil || d.of == nil {
			v.find("extra", "snapshots", strconv.FormatInt(r.int(0), 10), "its delivery is not there")
			if d != nil { // its event is not: the record is
				d.snapshot = ""
			}
			return
		}
		switch {
		case d.of.pruned&prunedRecord != 0:
			v.find("extra", "snapshots", d.id, "it was pruned, and is there again")
		case d.snapshot == "":
			v.find("extra", "snapshots", d.id, "nobody has written it")
		case digest(d.of.salt, r.int(3), r.bytes(4)) != d.snapshot || v.eventAt[r.int(1)] != d.of || r.str(2) != d.hook:
			v.find("altered", "snapshots", d.id, "it is not the record that was read, or not when, or is another event's")
		}
		d.snapshot = ""
	})
}

// rows compares a table whose rows never change: their last column is seq.
func (v *verifier) rows(table string, r row, before int64) {
	v.Rows++
	seq := r.int(len(r) - 1)
	id := strconv.FormatInt(seq, 10)
	sum := digest(nil, r[:len(r)-1]...)
	written, known := v.once[table][sum]
	switch {
	case known:
		v.put(table, written.spot, seq, id)
		delete(v.once[table], sum)
	case seq <= before:
		v.Before++
	default:
		v.find("extra", table, id, "it is not what was written: altered, or put in")
	}
}

func (v *verifier) actRows() error {
	return v.read(`select at, actor, act, delivery_seq, event_id, reason, was, now, seq from acts`, func(r row) {
		v.rows("acts", r, v.before.ActSeq)
	})
}

// acceptedRows looks at the accepted sets and at what they hold, which is named by
// its own hash.
func (v *verifier) acceptedRows() error {
	needed := map[string]bool{}
	err := v.read(`select node, revision, config_sha, scripts, at, seq from accepted`, func(r row) {
		needed[r.str(2)] = true
		var scripts map[string]string
		_ = json.Unmarshal(r.bytes(3), &scripts) // an altered row is found below
		for _, sha := range scripts {
			needed[sha] = true
		}
		v.rows("accepted", r, v.before.AcceptedSeq)
	})
	if err != nil {
		return err
	}
	err = v.read(`select sha, content from documents order by sha`, func(r row) {
		v.Rows++
		delete(needed, r.str(0))
		if sum := sha256.Sum256(r.bytes(1)); fmt.Sprintf("%x", sum) != r.str(0) {
			v.find("altered", "documents", r.str(0), "this configuration or script is not the one with this hash")
		}
	})
	for _, sha := range slices.Sorted(maps.Keys(needed)) {
		v.find("missing", "documents", sha, "a configuration that was accepted needs it")
	}
	return err
}
