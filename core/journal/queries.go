package journal

import (
	"regexp"
	"strconv"
	"strings"
)

// query names a text of queries.
type query string

// The queries.
const (
	qEventInsert    query = "event insert"
	qRefuse         query = "refuse"
	qDeliveryInsert query = "delivery insert"
	qHead           query = "head of lane"
	qTake           query = "take"
	qShape          query = "shape"
	qUnshape        query = "unshape"
	qMessageInsert  query = "message insert"
	qSnapshotInsert query = "snapshot insert"
	qAttemptInsert  query = "attempt insert"
	qSettle         query = "settle"
	qSettled        query = "settled"
	qPromote        query = "promote"
	qPeek           query = "peek at head"
	qAnswer         query = "answer"
	qUndoBegin      query = "undo begin"
	qUndoRun        query = "undo run"

	qKeyFind   query = "key find"
	qKeyUpsert query = "key upsert"
	qKeyPrune  query = "key prune"
	qKeyForget query = "key forget"

	qDue             query = "due"
	qClaim           query = "claim"
	qNext            query = "next"
	qLoad            query = "load"
	qLoadMessages    query = "load messages"
	qRecoverNodes    query = "recover nodes"
	qRecover         query = "recover"
	qOrphan          query = "orphan"
	qStray           query = "stray"
	qHoldHeads       query = "hold heads"
	qHoldBehind      query = "hold behind"
	qNodeInsert      query = "node insert"
	qNodeRenew       query = "node renew"
	qNodeDelete      query = "node delete"
	qLanes           query = "lanes of deliveries"
	qActRead         query = "act read"
	qActRetry        query = "act retry"
	qActCancel       query = "act cancel"
	qActInsert       query = "act insert"
	qActHold         query = "act hold"
	qReplay          query = "replay"
	qNewer           query = "newer in lane"
	qEventOrigin     query = "origin of event"
	qEventPlace      query = "event place"
	qEventRoutes     query = "routes of event"
	qDocInsert       query = "document insert"
	qDocRead         query = "document read"
	qAcceptInsert    query = "accepted insert"
	qAcceptRead      query = "accepted read"
	qEventsStates    query = "states of events"
	qEventFind       query = "event find"
	qBody            query = "body"
	qEventSeqs       query = "delivery seqs of event"
	qEventParts      query = "deliveries of event"
	qEventMessages   query = "messages of event"
	qEventAttempts   query = "attempts of event"
	qEventActs       query = "acts of event"
	qAuditDeliveries query = "audit of deliveries"
	qAuditInsert     query = "audit insert"
	qDepth           query = "depth"
	qTroubles        query = "troubles"
	qFirstNode       query = "first node"
	qNewestEvent     query = "newest event"
	qArrivals        query = "arrivals"

	qPruneFrom       query = "prune from"
	qPruneUpto       query = "prune upto"
	qPruneNext       query = "prune next"
	qPruneAgain      query = "prune again"
	qPruneDue        query = "prune due"
	qPruneLanes      query = "prune lanes"
	qPruneKeys       query = "prune keys"
	qPruneBody       query = "prune body"
	qPruneSent       query = "prune sent"
	qPruneMessages   query = "prune messages"
	qPruneRecords    query = "prune snapshots of an age"
	qPruneEnriched   query = "prune enriched"
	qPruneSnapshots  query = "prune snapshots"
	qPruneReplies    query = "prune replies"
	qPruneWords      query = "prune words of scripts"
	qPruneAttempts   query = "prune attempts"
	qPruneActs       query = "prune acts"
	qPruneOldActs    query = "prune old acts"
	qPruneDeliveries query = "prune deliveries"
	qPruneAnswers    query = "prune answers"
	qPruneEvent      query = "prune event"
	qPruneKey        query = "prune key"

	qQuarantines      query = "quarantines"
	qQuarantinesOf    query = "quarantines of scripts"
	qQuarantineInsert query = "quarantine insert"
	qQuarantineDelete query = "quarantine delete"

	qTraceEvent   query = "trace of event"
	qTraceSent    query = "trace of messages"
	qTraceRecord  query = "trace of snapshots"
	qTraceSeqs    query = "trace of audit, its ends"
	qTraceAudit   query = "trace of audit"
	qTraceAuditAt query = "trace of audit, a time"
	qTraceSet     query = "trace of set"
	qTraceNextSet query = "trace of next set"
)

// pruneColumns are what decides whether an event is pruned. The newest of all stays
// as long as it is the newest: SQLite would give its number to another.
const (
	pruneColumns = `select e.seq, e.id, {now} - e.received_at, case when e.hook = $1 then 1 else 0 end, e.pruned,
			case when e.hook = $1 and ` + pruneOpen + ` then 1 else 0 end,
			case when $2 = 1 and ` + pruneNewest + ` then 1 else 0 end
		from events e`
	pruneOpen   = `exists (select 1 from deliveries d where d.event_seq = e.seq and d.open = 1)`
	pruneNewest = `(e.seq = (select max(seq) from events)
		or e.seq = (select event_seq from deliveries order by seq desc limit 1))`
	// enriched: a snapshot of the event is kept, whose digest needs the salt.
	enriched     = `exists (select 1 from snapshots s where s.hook = events.hook and s.event_seq = events.seq)`
	deliveriesOf = `(select seq from deliveries where event_seq in {ints $1})`
)

const (
	eventColumns = `e.seq, e.id, e.ref, e.hook, e.study, e.stage, e.kind, e.trans_id, e.form_id, e.form_name,
		e.wf_id, e.wf_name, e.received_at, e.traceparent, e.revision, e.origin`
	eventExtra = `length(e.body), e.refused_code, e.refused_key, e.refused_rule,
		a.status, a.code, a.detail, a.gone_us, a.at`
	deliveryColumns = `d.seq, d.id, d.route, d.lane, d.state, d.attempts, d.begun_at, d.sent, d.shape, d.script, d.revision`
	deliveryExtra   = `d.hook, d.head, d.open, d.due_at, d.owner, d.code, d.reason, d.position, d.created_at, d.updated_at, d.ended_at, d.origin`
	headOf          = `(select 1 from deliveries where lane = $5 and head = 1)`
	// auditDeliveryColumns: what needs a name first, contents and their salt last.
	auditDeliveryColumns = deliveryFirst + `e.id` + deliveryThen + `e.salt`
	// deliveryAlone has the same columns without those of the event.
	deliveryAlone = deliveryFirst + `''` + deliveryThen + `null`
	deliveryFirst = `d.seq, d.version, d.id, `
	deliveryThen  = `, d.route, d.state, d.code,
		d.event_seq, d.hook, d.lane, d.head, d.open, d.owner, d.due_at, d.wait, d.attempts, d.begun_at, d.sent, d.shape, d.script, d.revision,
		d.created_at, d.updated_at, d.ended_at, d.origin, d.reason, d.position, d.logs, `
	// nextOfLane is the first of those that wait behind a lane's head.
	nextOfLane = `(select seq from deliveries where lane = $1 and open = 1 and head = 0 order by seq limit 1)`
)

// queries are the texts for both engines: arguments are $n, numbered in the
// order of their first appearance, and {..} is spelled per engine by [spell].
// An argument that Postgres would take for an int because it is compared with a
// literal is compared with a column or added to one instead.
var queries = map[query]string{
	qEventInsert: `insert into events (id, ref, hook, study, stage, kind, trans_id, form_id, form_name, wf_id, wf_name,
			received_at, traceparent, revision, origin, salt, body)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)`,
	qRefuse: `update events set refused_code = $1, refused_key = $2, refused_rule = $3 where id = $4`,

	// Whether it is the head is decided here and not in Go, so that on Postgres
	// the whole of Begin is one round trip. It is one row of values: a select of the
	// table that it goes into costs SQLite a table in between.
	qDeliveryInsert: `insert into deliveries (id, event_seq, hook, route, lane, head, open, state, owner, due_at, wait,
			begun_at, shape, script, revision, created_at, updated_at)
		values ($1, (select seq from events where id = $2), $3, $4, $5,
			case when exists ` + headOf + ` then 0 else 1 end, 1,
			case when $6 = 1 and not exists ` + headOf + ` then 'running' else 'queued' end,
			case when $6 = 1 and not exists ` + headOf + ` then $7 end,
			case (select state from deliveries where lane = $5 and head = 1)
				when 'running' then {now} + $8
				else case when $6 = 1 and not exists ` + headOf + ` then null else {now} end end,
			$8,
			case when $6 = 1 and not exists ` + headOf + ` then {now} end,
			$9, $10, $11, {now}, {now})
		{returning seq, begun_at}`,

	qHead: `select seq, state, owner from deliveries where lane = $1 and head = 1`,

	qTake: `update deliveries set version = version + 1, state = 'running', owner = $1, due_at = null,
			begun_at = coalesce(begun_at, {now}), updated_at = {now}
		where seq = $2 and head = 1 and state = 'queued'
		returning attempts, begun_at`,

	qShape: `update deliveries set version = version + 1, shape = $1, script = $2, revision = $3, logs = $4, updated_at = {now}
		where seq = $5 and state = 'running' and owner = $6
		returning seq`,
	qUnshape: `delete from messages where delivery_seq in
		(select seq from deliveries where id = $1 and state = 'running' and owner = $2)`,
	qMessageInsert: `insert into messages (delivery_seq, n, content_type, headers, key, path, payload)
		select seq, $1, $2, $3, $4, $5, $6 from deliveries
		where id = $7 and ($8 = 1 or state = 'running' and owner = $9)`,

	// Before settle, as the attempts. Of one event the delivery's newest is kept. What
	// is older than retention.enriched, and was retried, is used but not kept.
	qSnapshotInsert: `insert into snapshots (delivery_seq, event_seq, hook, read_at, record)
		select d.seq, d.event_seq, d.hook, $1, $2 from deliveries d join events e on e.seq = d.event_seq
		where d.seq = $3 and d.state = 'running' and d.owner = $4 and (e.pruned & 4) = 0
		on conflict (delivery_seq) do update set read_at = excluded.read_at, record = excluded.record
		{returning delivery_seq}`,
	// Before settle, which ends what it looks for. The same attempt is kept once.
	qAttemptInsert: `insert into attempts (delivery_seq, n, message, started_at, took_us, effect, code,
			target_status, reply_type, reply, truncated, retry_after_us, detail)
		select seq, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12 from deliveries
		where seq = $13 and state = 'running' and owner = $14 {for update}
		on conflict (delivery_seq, n) do nothing`,
	// What a delivery has logged that has a shape was written with that.
	qSettle: `update deliveries set version = version + 1, state = $1, head = $2, open = $3, due_at = {now} + $4, owner = null,
			attempts = $5, sent = $6, code = $7, reason = $8, position = $9,
			logs = case when shape = 0 then $10 else logs end, updated_at = {now}, ended_at = {now} + $11
		where seq = $12 and state = 'running' and owner = $13
		{returning seq}`,
	// Did a settlement whose commit was not confirmed get through?
	qSettled: `select count(*) from deliveries
		where seq = $1 and state = $2 and attempts = $3 and sent = $4 and owner is null`,
	qPromote: `update deliveries set version = version + 1, head = 1, updated_at = {now}
		where seq = ` + nextOfLane + `
			and not exists (select 1 from deliveries where lane = $1 and head = 1)
		{returning seq, route, due_at - {now}}`,
	qPeek: `select seq, route, due_at - {now} from deliveries where lane = $1 and head = 1`,

	qAnswer: `insert into answers (event_seq, status, code, detail, gone_us, at)
		select seq, $1, $2, $3, $4, $5 from events where id = $6
		on conflict (event_seq) do nothing`,

	qUndoBegin: `update deliveries set version = version + 1, state = 'cancelled', head = 0, open = 0, due_at = null, owner = null,
			reason = $1, updated_at = {now}, ended_at = {now}
		where event_seq = (select seq from events where id = $2) and open = 1
		returning seq`,
	qUndoRun: `update deliveries set version = version + 1, state = 'queued', owner = null, due_at = {now}, updated_at = {now}
		where seq = $1 and state = 'running' and owner = $2
		returning route`,

	qKeyFind: `select sha, event_id from keys where hook = $1 and key = $2 and expires_at > {now}`,
	qKeyUpsert: `insert into keys (hook, key, sha, event_id, expires_at) values ($1, $2, $3, $4, {now} + $5)
		on conflict (hook, key) do update set sha = excluded.sha, event_id = excluded.event_id, expires_at = excluded.expires_at`,
	qKeyPrune: `delete from keys where (hook, key) in
		(select hook, key from keys where expires_at <= {now} order by expires_at limit 200 {skip locked})`,

	qKeyForget: `delete from keys where event_id = $1`,

	qDue: `select seq from deliveries
		where route = $1 and head = 1 and due_at is not null and due_at <= {now}
		order by due_at, seq limit $2 {skip locked}`,
	qClaim: `update deliveries set version = version + 1, state = 'running', owner = $1, due_at = null,
			shape = case when shape = 0 then $2 else shape end,
			begun_at = coalesce(begun_at, {now}), updated_at = {now}
		where seq in {ints $3}`,
	qNext: `select due_at - {now} from deliveries
		where route = $1 and head = 1 and due_at is not null order by due_at limit 1`,
	qLoad: `select ` + deliveryColumns + `, ` + eventColumns + `, e.body
		from deliveries d join events e on e.seq = d.event_seq
		where d.seq in {ints $1}`,
	qLoadMessages: `select delivery_seq, content_type, headers, key, path, payload
		from messages where delivery_seq in {ints $1} order by delivery_seq, n`,

	qRecoverNodes: `delete from nodes where renewed_at < {now} - $1 and id <> $2`,
	// head = 1 lets it use the index of the heads: what runs is a head.
	qRecover: `update deliveries set version = version + 1, state = 'unknown', owner = null, code = $1, reason = $2,
			attempts = case when attempts = 0 then 1 else attempts end,
			due_at = case when route in {texts $3} then null else {now} end, updated_at = {now}
		where head = 1 and state = 'running' and owner <> $4
			and owner not in (select id from nodes)
		returning seq, route, due_at - {now}`,
	// Whether there is anything to do is asked of the readers: the writer would be
	// busy with it while events wait.
	qOrphan: `select 1 from deliveries
		where head = 1 and state = 'running' and owner <> $1 limit 1`,
	qStray: `select 1 from (
			select state, route from deliveries where head = 1
			union all
			select state, route from deliveries where open = 1 and head = 0) s
		where state in ('queued', 'waiting', 'unknown') and route not in {texts $1} limit 1`,
	qHoldHeads: `update deliveries set version = version + 1, state = 'held', due_at = null, reason = $1, updated_at = {now}
		where head = 1 and state in ('queued', 'waiting', 'unknown') and route not in {texts $2}
		returning seq`,
	qHoldBehind: `update deliveries set version = version + 1, state = 'held', due_at = null, reason = $1, updated_at = {now}
		where open = 1 and head = 0 and state in ('queued', 'waiting', 'unknown') and route not in {texts $2}
		returning seq`,

	// Both parts have an index of their own, and a bound for a queue of any length.
	qDepth: `select route, state, count(*), {now} - min(created_at) from (
			select route, state, created_at from (
				select route, state, created_at from deliveries where head = 1 limit $1) h
			union all
			select route, state, created_at from (
				select route, state, created_at from deliveries where open = 1 and head = 0 limit $1) b) q
		where state in ('queued', 'running', 'waiting', 'unknown', 'held')
		group by route, state`,

	qNodeInsert: `insert into nodes (id, name, started_at, renewed_at) values ($1, $2, {now}, {now})`,
	qNodeRenew:  `update nodes set renewed_at = {now} where id = $1 returning id`,
	qNodeDelete: `delete from nodes where id = $1`,

	qLanes: `select id, lane, seq from deliveries where id in {texts $1}`,
	qActRead: `select d.seq, d.lane, d.state, d.head, d.open, d.route, (select e.id from events e where e.seq = d.event_seq),
			d.event_seq, d.shape, (select e.trans_id from events e where e.seq = d.event_seq), (select e.pruned from events e where e.seq = d.event_seq)
		from deliveries d where d.id = $1 {for update}`,
	qActRetry: `update deliveries set version = version + 1, state = 'queued', due_at = {now}, begun_at = null, ended_at = null, open = 1, updated_at = {now},
			head = case when head = 1 or not exists (select 1 from deliveries h where h.lane = $1 and h.head = 1) then 1 else 0 end
		where seq = $2
		returning head`,
	qActCancel: `update deliveries set version = version + 1, state = 'cancelled', head = 0, open = 0, due_at = null,
			updated_at = {now}, ended_at = {now}
		where seq = $1`,
	qActHold: `update deliveries set version = version + 1, state = 'held', due_at = null, reason = $1, updated_at = {now}
		where seq = $2`,
	qReplay: `insert into deliveries (id, event_seq, hook, route, lane, head, open, state, due_at, wait, shape, script, revision,
			origin, created_at, updated_at)
		select $1, d.event_seq, d.hook, d.route, d.lane,
			case when exists (select 1 from deliveries h where h.lane = $2 and h.head = 1) then 0 else 1 end, 1,
			'queued', {now}, 0, d.shape * 0 + $3, case when $3 = d.shape * 0 then '' else d.script end, case when $3 = d.shape * 0 then '' else d.revision end,
			d.id, {now}, {now}
		from deliveries d where d.seq = $4
		{returning seq}`,
	qNewer: `select e.ref from events e join deliveries d on d.event_seq = e.seq
		where e.trans_id = $1 and d.lane = $2 and e.seq > $3 and (d.state = 'delivered' or d.open = 1)
		order by e.seq desc limit 1`,
	qEventOrigin: `select e.pruned, coalesce(l.id, ''), coalesce(l.ref, '')
		from events e left join events l on l.origin = e.id and l.origin <> ''
		where e.id = $1 order by l.seq limit 1`,
	qEventPlace:  `select seq, trans_id from events where id = $1`,
	qEventRoutes: `select route from deliveries where event_seq = $1`,
	qActInsert:   `insert into acts (at, actor, act, delivery_seq, event_id, reason, was, now) values ($1, $2, $3, $4, $5, $6, $7, $8)`,

	qDocInsert:    `insert into documents (sha, content, at) values ($1, $2, {now}) on conflict (sha) do nothing`,
	qDocRead:      `select content from documents where sha = $1`,
	qAcceptInsert: `insert into accepted (node, revision, config_sha, scripts, at) values ($1, $2, $3, $4, $5)`,
	qAcceptRead:   `select revision, config_sha, scripts, at from accepted where node = $1 order by seq desc limit 1`,

	qEventsStates: `select d.event_seq, d.id, d.route, d.state, d.code from deliveries d
		where d.event_seq in {ints $1} order by d.seq`,
	qEventFind: `select ` + eventColumns + `, ` + eventExtra + `
		from events e left join answers a on a.event_seq = e.seq
		where e.id = $1 or e.ref = $2
		order by e.seq desc limit 1`,
	qBody:      `select body from events where id = $1`,
	qEventSeqs: `select seq from deliveries where event_seq = $1 order by seq`,
	qEventParts: `select ` + deliveryColumns + `, ` + eventColumns + `, ` + deliveryExtra + `, d.logs
		from deliveries d join events e on e.seq = d.event_seq
		where d.event_seq = $1 order by d.seq`,
	// What was done to an event itself has no delivery.
	qEventActs: `select coalesce(d.id, ''), a.at, a.actor, a.act, a.reason, a.was, a.now
		from acts a left join deliveries d on d.seq = a.delivery_seq
		where a.delivery_seq in (select seq from deliveries where event_seq = (select seq from events where id = $1))
			or a.delivery_seq = 0 and a.event_id = $1
		order by a.seq`,
	qEventMessages: `select m.delivery_seq, m.n, m.content_type, length(m.payload), m.key, m.path
		from messages m where m.delivery_seq in (select seq from deliveries where event_seq = $1)
		order by m.delivery_seq, m.n`,
	qAuditDeliveries: `select ` + auditDeliveryColumns + ` from deliveries d join events e on e.seq = d.event_seq
		where d.seq in {ints $1} order by d.seq`,
	qAuditInsert: `insert into audit (chain, n, at, entries, hash) values ($1, $2, $3, $4, $5)`,
	qEventAttempts: `select t.delivery_seq, t.n, t.message, t.started_at, t.took_us, t.effect, t.code, t.target_status,
			t.reply_type, t.reply, t.truncated, t.retry_after_us, t.detail
		from attempts t where t.delivery_seq in (select seq from deliveries where event_seq = $1)
		order by t.delivery_seq, t.n`,

	qPruneFrom: `select upto from pruned where hook = $1 and what = $2`,
	qPruneUpto: `insert into pruned (hook, what, upto) values ($1, $2, $3)
		on conflict (hook, what) do update set
			upto = case when excluded.upto > pruned.upto then excluded.upto else pruned.upto end`,
	qPruneNext: pruneColumns + ` where e.seq > $3 order by e.seq limit $4`,
	// From the oldest snapshot that is left: there is no progress to keep.
	qPruneRecords: pruneColumns + ` where e.seq in
			(select distinct event_seq from snapshots where hook = $1 and event_seq > $3 order by event_seq limit $4)
		order by e.seq`,
	qPruneAgain: pruneColumns + ` where e.seq in {ints $3} order by e.seq`,
	qPruneDue: `select e.seq, e.id from events e
		where e.hook = $1 and e.seq in {ints $2} and (e.pruned & $3) = 0 and e.received_at <= {now} - $4
			and not ` + pruneOpen + ` and ($5 = 0 or not ` + pruneNewest + `)
		order by e.seq`,
	qPruneLanes: `select distinct lane from deliveries where event_seq in {ints $1}`,
	qPruneKeys: `select key from keys
		where expires_at <= (select received_at from events where seq = $1) + $2 and event_id in {texts $3}`,
	qPruneBody: `update events set body = $1, pruned = pruned | 1,
			salt = case when (pruned & 2) = 2 and not ` + enriched + ` then null else salt end
		where seq in {ints $2}`,
	qPruneSent: `update events set pruned = pruned | 2,
			salt = case when (pruned & 1) = 1 and not ` + enriched + ` then null else salt end
		where seq in {ints $1}`,
	qPruneEnriched: `update events set pruned = pruned | 4, salt = case when (pruned & 3) = 3 then null else salt end
		where seq in {ints $1}`,
	qPruneSnapshots: `delete from snapshots where delivery_seq in ` + deliveriesOf,
	qPruneMessages:  `delete from messages where delivery_seq in ` + deliveriesOf,
	qPruneReplies: `update attempts set reply = $1, detail = ''
		where delivery_seq in (select seq from deliveries where event_seq in {ints $2})`,
	qPruneWords: `update deliveries set reason = '', position = '', logs = ''
		where event_seq in {ints $1} and (reason <> '' or position <> '' or logs <> '')`,
	qPruneAttempts:   `delete from attempts where delivery_seq in ` + deliveriesOf,
	qPruneActs:       `delete from acts where event_id <> '' and delivery_seq = 0 and event_id in {texts $1}`,
	qPruneOldActs:    `delete from acts where delivery_seq in ` + deliveriesOf,
	qPruneDeliveries: `delete from deliveries where event_seq in {ints $1}`,
	qPruneAnswers:    `delete from answers where event_seq in {ints $1}`,
	qPruneEvent:      `delete from events where seq in {ints $1}`,
	qPruneKey:        `delete from keys where hook = $1 and key = $2 and event_id in {texts $3}`,
	qTraceEvent:      `select pruned from events where id = $1`,
	qTraceSent: `select d.id, m.n, m.content_type, m.headers, m.key, m.path, m.payload
		from messages m join deliveries d on d.seq = m.delivery_seq
		where d.event_seq = (select seq from events where id = $1) order by m.delivery_seq, m.n`,
	qTraceRecord: `select d.id, s.read_at, s.record from snapshots s join deliveries d on d.seq = s.delivery_seq
		where d.event_seq = (select seq from events where id = $1)`,
	qTraceSeqs: `select coalesce((select min(seq) from (select seq from audit where at >= $1 order by at limit 100) s), 0),
		coalesce((select max(seq) from audit), 0)`,
	qTraceAudit:   `select at, entries from audit where seq >= $1 and seq < $2 and {holds entries $3} order by seq`,
	qTraceAuditAt: `select at from audit where seq >= $1 order by seq limit 1`,
	qTraceSet: `select node, config_sha, scripts, at from accepted where revision = $1
		order by case when at <= $2 then 0 else 1 end, abs(at - $2), seq desc limit 1`,
	qTraceNextSet:  `select revision, at from accepted where node = $1 and at > $2 and revision <> $3 order by seq limit 1`,
	qQuarantines:   `select sha, script, since, why from quarantines order by since`,
	qQuarantinesOf: `select sha, script, since, why from quarantines where sha in {texts $1} order by since`,
	qQuarantineInsert: `insert into quarantines (sha, script, since, why) values ($1, $2, $3, $4)
		on conflict (sha) do nothing {returning sha}`,
	qQuarantineDelete: `delete from quarantines where sha in {texts $1}`,
	// SQLite takes a partial index only where its condition stands word for word.
	qTroubles: `select d.route, e.ref, d.head, d.due_at, d.updated_at, d.ended_at
		from (select seq, event_seq, route, state, head, due_at, updated_at, ended_at from deliveries
			where state = $1 and state in ('waiting', 'unknown', 'held', 'dead', 'cancelled', 'rejected', 'skipped')
			order by seq desc limit $2) d
		join events e on e.seq = d.event_seq
		where d.state = 'held' or d.head = 1 and d.due_at is null or d.ended_at >= $3
		order by d.seq desc`,
	qFirstNode:   `select min(id) from nodes`,
	qNewestEvent: `select max(seq) from events`,
	qArrivals:    `select hook, max(received_at), max(seq) from events where seq > $1 and refused_code = '' group by hook`,
}

// textOf is a query's text: of a search, which is made as it is asked for, the query
// is the text.
func textOf(q query) string {
	if text, ok := queries[q]; ok {
		return text
	}
	return string(q)
}

// dialect spells what the engines do not share.
type dialect struct {
	now, forUpdate, skipLocked string
	returning                  bool
	ints, texts                string // a JSON array as rows; %s is the argument
	holds                      string // whether entries of the audit hold some bytes
}

var (
	sqliteDialect = dialect{
		now:   nowArgument, // this machine's clock: cheaper than to ask SQLite for it
		ints:  `(select value from json_each(%s))`,
		texts: `(select value from json_each(%s))`,
		holds: `instr(entries, %s) > 0`,
	}
	postgresDialect = dialect{
		returning:  true,
		now:        `(extract(epoch from clock_timestamp()) * 1000000)::bigint`,
		forUpdate:  `for update`,
		skipLocked: `for update skip locked`,
		ints:       `(select x::bigint from json_array_elements_text(%s::text::json) as x)`,
		texts:      `(select x from json_array_elements_text(%s::text::json) as x)`,
		holds:      `position(%s::bytea in entries) > 0`,
	}
)

var placeholder = regexp.MustCompile(`\{(ints|texts|holds entries) (\$\d+)\}`)

var returned = regexp.MustCompile(`\{(returning (?:[^{}]|\{now\})*)\}`)

// spell gives a text of queries in the engine's words. {returning ..} is left out
// for SQLite, which makes a table for it each time; see [step].
func (d dialect) spell(text string) string {
	kept := "$1"
	if !d.returning {
		kept = ""
	}
	text = returned.ReplaceAllString(text, kept)
	text = strings.NewReplacer("{now}", d.now, "{for update}", d.forUpdate, "{skip locked}", d.skipLocked).Replace(text)
	return placeholder.ReplaceAllStringFunc(text, func(s string) string {
		m := placeholder.FindStringSubmatch(s)
		form := d.ints
		switch m[1] {
		case "texts":
			form = d.texts
		case "holds entries":
			form = d.holds
		}
		return strings.Replace(form, "%s", m[2], 1)
	})
}

// nowArgument stands for the time, in microseconds since 1970.
const nowArgument = `$0`

var argument = regexp.MustCompile(`\$\d+`)

// positional replaces every $n with ? and returns which argument each one is, -1
// for the time. SQLite's driver looks every named parameter up by its name, for
// each run.
func positional(text string) (string, []int) {
	var order []int
	text = argument.ReplaceAllStringFunc(text, func(s string) string {
		n, _ := strconv.Atoi(s[1:])
		order = append(order, n-1)
		return "?"
	})
	return text, order
}
