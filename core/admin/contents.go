package admin

import (
	"context"
	"maps"
	"reflect"
	"slices"
)

// A field of an answer that may hold contents has the tag `access:"read"`: a reply,
// a reason, what a script has made. Whoever may not read gets the answer without
// them, and of those who may it is told of which event they saw it. That is done here for every
// answer, so that an endpoint cannot forget it.
const (
	accessTag = "access"
	needsRead = "read"
)

// view is what a caller gets to see of an answer.
func (a *api) view(ctx context.Context, e *endpoint, answer any) (any, error) {
	if answer == nil {
		return nil, nil
	}
	box := reflect.New(reflect.TypeOf(answer))
	box.Elem().Set(reflect.ValueOf(answer))
	mayRead := callerOf(ctx).allows(read) == nil
	if e.list || !mayRead {
		contents(box.Elem(), "", func(_ string, field reflect.Value) { field.SetZero() })
		return box.Elem().Interface(), nil
	}
	events := map[string]bool{}
	contents(box.Elem(), "", func(event string, _ reflect.Value) { events[event] = true })
	for _, event := range slices.Sorted(maps.Keys(events)) {
		if event == "" { // a plugin's last words: they are asked for when much is down, the journal perhaps
			a.Log.Info("contents that are of no event were read in the admin API", "actor", actorOf(ctx), "path", e.path)
			continue
		}
		if err := a.viewed(ctx, "detail", event); err != nil {
			return nil, err
		}
	}
	return answer, nil
}

// viewed tells that the caller is about to see what of an event's contents. What
// cannot be noted is not shown.
func (a *api) viewed(ctx context.Context, what, eventID string) error {
	actor := actorOf(ctx)
	if a.Viewed != nil {
		if err := a.Viewed(ctx, actor, what, eventID); err != nil {
			return err
		}
	}
	a.Log.Info("the "+what+" of an event was read in the admin API", "actor", actor, "event_id", eventID)
	return nil
}

// ofEvent is a view that knows whose contents it holds.
type ofEvent interface{ eventID() string }

func (f EventFacts) eventID() string { return f.ID }
func (d Delivery) eventID() string   { return d.EventID }

// contents visits every field in v, at any depth, that holds contents. v can be
// set, and event is whose contents they are, as far as is known.
func contents(v reflect.Value, event string, visit func(event string, field reflect.Value)) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			contents(v.Elem(), event, visit)
		}
	case reflect.Interface:
		if !v.IsNil() {
			inside := reflect.New(v.Elem().Type()).Elem() // what is in there cannot be set
			inside.Set(v.Elem())
			contents(inside, event, visit)
			v.Set(inside)
		}
	case reflect.Slice, reflect.Array:
		if plain(v.Type().Elem()) {
			return
		}
		for i := range v.Len() {
			contents(v.Index(i), event, visit)
		}
	case reflect.Map:
		if plain(v.Type().Elem()) {
			return
		}
		for _, key := range v.MapKeys() {
			inside := reflect.New(v.Type().Elem()).Elem()
			inside.Set(v.MapIndex(key))
			contents(inside, event, visit)
			v.SetMapIndex(key, inside)
		}
	case reflect.Struct:
		if of, ok := v.Interface().(ofEvent); ok {
			event = of.eventID()
		}
		for i := range v.NumField() {
			field := v.Type().Field(i)
			switch {
			case !field.IsExported():
			case field.Tag.Get(accessTag) == needsRead:
				if !v.Field(i).IsZero() {
					visit(event, v.Field(i))
				}
			default:
				contents(v.Field(i), event, visit)
			}
		}
	}
}

// plain tells whether nothing in a value of type t can have a tag.
func plain(t reflect.Type) bool { return t.Kind() <= reflect.Complex128 || t.Kind() == reflect.String }
