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
		traceparent, revision, origin, refused_code, refused_key, refused_rule, seq, pruned, salt, body from events order by seq`
	return v.read(text, func(r row) {
		v.Rows++
		id := r.str(0)
		e := v.events[id]
		if e == nil || e.row == "" {
			if r.int(18) <= v.before.EventSeq {
				v.Before++
				v.event(id).seen = true
				return
			}
			v.find("extra", "events", id, "nobody has written it (hook %s, received at %s)", r.str(2), clock(r.int(11)))
			v.event(id).seen = true
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
		if e.pruned != 0 {
			v.Pruned++
		}
	})
}

func (v *verifier) deliveryRows() error {
	return v.read(`select `+auditDeliveryColumns+` from deliveries d left join events e on e.seq = d.event_seq order by d.seq`, func(r row) {
		v.Rows++
		id := r.str(auID)
		d := v.deliveries[id]
		if d == nil {
			v.deliveries[id] = &auditedDelivery{seen: true, event: r.str(auEvent)}
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
		salted := !r.null(len(r) - 1) // else its contents' digests mean nothing any more
		switch {
		case now.Row == d.row && (now.Text == d.text || !salted):
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
	const text = `select e.id, a.status, a.code, a.detail, a.gone_us, a.at, a.event_seq, e.salt
		from answers a left join events e on e.seq = a.event_seq order by a.event_seq`
	return v.read(text, func(r row) {
		v.Rows++
		id := r.str(0)
		e := v.events[id]
		switch {
		case id == "":
			v.find("extra", "answers", strconv.FormatInt(r.int(6), 10), "its event is not there")
		case e == nil || e.answer == "":
			if r.int(6) <= v.before.EventSeq {
				v.Before++
				return
			}
			v.find("extra", "answers", id, "nobody has given it")
		case e.answered:
			v.find("extra", "answers", id, "it is there twice")
		case !r.null(7) && digest(r.bytes(7), r[1:6]...) != e.answer:
			v.find("altered", "answers", id, "it is not what the caller was told, which was %s", e.code)
		}
		if e != nil {
			e.answered = true
		}
	})
}

func (v *verifier) attemptRows() error {
	const text = `select d.id, t.n, t.message, t.started_at, t.took_us, t.effect, t.code, t.target_status, t.reply_type,
		t.reply, t.truncated, t.retry_after_us, t.detail, t.delivery_seq, e.id, e.salt
		from attempts t left join deliveries d on d.seq = t.delivery_seq left join events e on e.seq = d.event_seq
		order by t.delivery_seq, t.n`
	return v.read(text, func(r row) {
		v.Rows++
		id := fmt.Sprintf("%s/%d", r.str(0), r.int(1))
		d := v.deliveries[r.str(0)]
		if r.null(0) || d == nil {
			v.find("extra", "attempts", fmt.Sprintf("%d/%d", r.int(13), r.int(1)), "its delivery is not there")
			return
		}
		want := d.attempts[int(r.int(1))]
		pruned := v.event(r.str(14)).pruned&prunedSent != 0
		values := slices.Clone(r[1:13])
		values[8] = r.bytes(9)
		switch {
		case want == "":
			if r.int(13) <= v.before.DeliverySeq {
				v.Before++
				return
			}
			v.find("extra", "attempts", id, "nobody has made it")
		case pruned && (len(r.bytes(9)) > 0 || r.str(12) != ""):
			v.find("altered", "attempts", id, "what the target said was pruned, and is there again")
		case !pruned && digest(r.bytes(15), values...) != want:
			v.find("altered", "attempts", id, "it is not what was written of it")
		}
		delete(d.attempts, int(r.int(1)))
	})
}

func (v *verifier) messageRows() error {
	const text = `select d.id, m.n, m.content_type, m.headers, m.key, m.path, m.payload, m.delivery_seq, e.id, e.salt
		from messages m left join deliveries d on d.seq = m.delivery_seq left join events e on e.seq = d.event_seq
		order by m.delivery_seq, m.n`
	return v.read(text, func(r row) {
		v.Rows++
		id := fmt.Sprintf("%s/%d", r.str(0), r.int(1))
		d := v.deliveries[r.str(0)]
		n := int(r.int(1))
		switch {
		case r.null(0) || d == nil:
			v.find("extra", "messages", fmt.Sprintf("%d/%d", r.int(7), n), "its delivery is not there")
		case v.event(r.str(8)).pruned&prunedSent != 0:
			v.find("extra", "messages", id, "it was pruned, and is there again")
		case n < 0 || n >= len(d.messages) || d.messages[n] == "":
			if r.int(7) <= v.before.DeliverySeq {
				v.Before++
				return
			}
			v.find("extra", "messages", id, "nobody has written it")
		default:
			if digest(r.bytes(9), r.int(1), r.str(2), r.str(3), r.bytes(4), r.bytes(5), r.bytes(6)) != d.messages[n] {
				v.find("altered", "messages", id, "it is not what was sent")
			}
			d.messages[n] = ""
		}
	})
}

// rows compares a table whose rows never change.
func (v *verifier) rows(table, id string, r row) {
	v.Rows++
	sum := digest(nil, r...)
	if _, known := v.once[table][sum]; !known {
		v.find("extra", table, id, "it is not what was written: altered, or put in")
		return
	}
	delete(v.once[table], sum)
}

func (v *verifier) actRows() error {
	return v.read(`select at, actor, act, delivery_seq, event_id, reason, was, now, seq from acts order by seq`, func(r row) {
		if r.str(4) == "" { // from before the audit
			v.Rows++
			v.Before++
			return
		}
		v.rows("acts", strconv.FormatInt(r.int(8), 10), r[:8])
	})
}

// acceptedRows looks at the accepted sets and at what they hold, which is named by
// its own hash.
func (v *verifier) acceptedRows() error {
	needed := map[string]bool{}
	err := v.read(`select node, revision, config_sha, scripts, at, seq from accepted order by seq`, func(r row) {
		needed[r.str(2)] = true
		var scripts map[string]string
		_ = json.Unmarshal(r.bytes(3), &scripts) // an altered row is found below
		for _, sha := range scripts {
			needed[sha] = true
		}
		if len(v.once["accepted"]) == 0 && v.before.EventSeq > 0 {
			v.Rows++
			v.Before++
			return
		}
		v.rows("accepted", strconv.FormatInt(r.int(5), 10), r[:5])
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
