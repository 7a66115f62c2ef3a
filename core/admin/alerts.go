package admin

import (
	"context"
	"net/http"
)

// Alert is one that stands.
type Alert struct {
	Alert   string   `json:"alert"`
	Subject string   `json:"subject"`
	Since   Time     `json:"since"`
	Text    string   `json:"text"` // Hookline's own words, with the way out
	Count   int      `json:"count"`
	Refs    []string `json:"refs"` // of events
	Sent    bool     `json:"sent"` // the transport has confirmed the message
}

// AlertList are the alerts that stand on this daemon.
type AlertList struct {
	Transport string  `json:"transport,omitempty"` // that they are sent over
	Alerts    []Alert `json:"alerts"`
}

func (a *api) alerts(r *http.Request) (any, error) {
	if _, err := query(r, nil); err != nil {
		return nil, err
	}
	if a.Alerts == nil {
		return AlertList{Alerts: []Alert{}}, nil
	}
	return a.Alerts(), nil
}

// Alerts lists what stands.
func (c *Client) Alerts(ctx context.Context) (*AlertList, error) {
	return get[AlertList](ctx, c, "/v1/alerts", nil)
}
