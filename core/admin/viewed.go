package admin

import "context"

// viewed tells that the caller is about to see what of an event's contents.
func (a *api) viewed(ctx context.Context, what, eventID string) error {
	a.Log.Info("the "+what+" of an event was read on the admin socket", "actor", actorOf(ctx), "event_id", eventID)
	return nil
}
