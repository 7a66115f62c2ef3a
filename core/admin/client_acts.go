package admin

import (
	"context"
	"net/http"
)

// Do has an act done, such as "release", to deliveries.
func (c *Client) Do(ctx context.Context, act string, a Act) (*ActResults, error) {
	return decode[ActResults](c.call(ctx, http.MethodPost, "/v1/deliveries/"+segment(act), callTimeout, a))
}

// Count tells how many deliveries an act would be for.
func (c *Client) Count(ctx context.Context, act string, f Filter) (*ActCount, error) {
	return decode[ActCount](c.call(ctx, http.MethodPost, "/v1/deliveries/"+segment(act), callTimeout, Act{Filter: f, DryRun: true}))
}

// Redrive drives an event again.
func (c *Client) Redrive(ctx context.Context, idOrRef string, how Redrive) (*Redriven, error) {
	return decode[Redriven](c.call(ctx, http.MethodPost, "/v1/events/"+segment(idOrRef)+"/retry", callTimeout, how))
}
