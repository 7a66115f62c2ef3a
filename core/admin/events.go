package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/hookline/hookline/core/journal"
)

type eventJournal interface {
	SearchEvents(ctx context.Context, f journal.EventFilter) (*journal.EventPage, error)
	Event(ctx context.Context, idOrRef string) (*journal.EventDetail, error)
	Body(ctx context.Context, id string) ([]byte, error)
	Acts(ctx context.Context, eventID string) ([]journal.Act, error)
}

// bounded does one read of the journal, in bounded time: a page takes many, and
// whoever has lost the database is to hear of it by the first.
func bounded(ctx context.Context, read func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	err := read(limited)
	if errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, journal.ErrUnavailable) && ctx.Err() == nil {
		err = &Error{Status: http.StatusServiceUnavailable, Text: fmt.Sprintf(
			"the journal has not answered within %s: look whether its database can be reached and is not overloaded", readTimeout)}
	}
	return err
}

// kept is the journal, if there is one.
func (a *api) kept() (Journal, error) {
	if a.Journal == nil {
		return nil, &Error{Status: http.StatusConflict, Text: "this daemon runs without a journal (journal.url is none)"}
	}
	return a.Journal, nil
}

func (a *api) events(r *http.Request) (any, error) {
	j, err := a.kept()
	if err != nil {
		return nil, err
	}
	f, err := eventFilter(r)
	if err != nil {
		return nil, err
	}
	var found *journal.EventPage
	err = bounded(r.Context(), func(ctx context.Context) (err error) {
		found, err = j.SearchEvents(ctx, f)
		return err
	})
	if err != nil {
		return nil, listError(err)
	}
	page := EventPage{Events: []Event{}, Next: found.Next, ScannedUntil: Time{found.Scanned}}
	for i := range found.Rows {
		e := Event{EventFacts: factsOf(&found.Rows[i]), Deliveries: []DeliveryState{}}
		for _, d := range found.Rows[i].States {
			e.Deliveries = append(e.Deliveries, DeliveryState(d))
		}
		page.Events = append(page.Events, e)
	}
	return page, nil
}

// listError tells what is wrong with a list's cursor: all else that the journal
// refuses has been looked at before, and what befalls it is marked.
func listError(err error) error {
	var known *Error
	if errors.As(err, &known) || errors.Is(err, journal.ErrUnavailable) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return refuse("%s", err.Error())
}

func (a *api) event(r *http.Request) (any, error) {
	detail, err := a.find(r)
	if err != nil {
		return nil, err
	}
	var acts []journal.Act
	err = bounded(r.Context(), func(ctx context.Context) (err error) {
		acts, err = a.Journal.Acts(ctx, detail.ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	out := EventDetail{EventFacts: factsOf(&detail.EventRow), Deliveries: []DeliveryDetail{}, Acts: doneTo("", acts)}
	for i := range detail.Deliveries {
		out.Deliveries = append(out.Deliveries, detailOf(&detail.Deliveries[i], acts))
	}
	return out, nil
}

func one(ctx context.Context, j Journal, idOrRef string) (detail *journal.EventDetail, err error) {
	err = bounded(ctx, func(ctx context.Context) (err error) {
		detail, err = j.Event(ctx, idOrRef)
		return err
	})
	return detail, err
}

func (a *api) find(r *http.Request) (*journal.EventDetail, error) {
	j, err := a.kept()
	if err != nil {
		return nil, err
	}
	if _, err := query(r, nil); err != nil {
		return nil, err
	}
	id, err := eventName(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	return one(r.Context(), j, id)
}

func (a *api) body(r *http.Request) (any, error) {
	detail, err := a.find(r)
	if err != nil {
		return nil, err
	}
	var body []byte
	err = bounded(r.Context(), func(ctx context.Context) (err error) {
		body, err = a.Journal.Body(ctx, detail.ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := a.viewed(r.Context(), "body", detail.ID); err != nil {
		return nil, err
	}
	d := document{"application/octet-stream", body}
	if json.Valid(body) {
		d.mediaType = mediaJSON
	}
	return d, nil
}

// spoken are the letters that a reference does not have, and what was meant.
var spoken = strings.NewReplacer("O", "0", "I", "1", "L", "1")

const (
	refLength  = 8
	refLetters = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
)

// eventName reads an event's id or reference.
func eventName(s string) (string, error) {
	if ref := spoken.Replace(strings.ToUpper(s)); len(s) == refLength && strings.Trim(ref, refLetters) == "" {
		return ref, nil
	}
	if id, err := readUUID(s); err == nil {
		return id, nil
	}
	return "", refuse("%s is no event: write its id (a UUID) or its reference (%d letters and digits)", shown(s), refLength)
}

// readUUID takes the usual form only.
func readUUID(s string) (string, error) {
	id, err := uuid.Parse(s)
	if err == nil && len(s) != len(id.String()) {
		err = errors.New("not the usual form")
	}
	return id.String(), err
}
