package workbench

import (
	"context"
	"encoding/json"
	"fmt"
)

// Tests runs the tests of a file: each in a fresh scope, one after the other. An
// error is about the bench, not about the tests.
func (b *Bench) Tests(ctx context.Context, s Script) ([]Result, error) {
	return nil, fmt.Errorf("%s %v", s.Name, json.RawMessage{})
}
