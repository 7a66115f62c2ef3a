package main

import (
	"context"
	"path/filepath"

	"github.com/hookline/hookline/plugins/file"
	"github.com/hookline/hookline/plugins/transport"
)

// fileEntry is a file in the run's folder: its disk decides.
var fileEntry = transportEntry{
	name: "file", make: func() transport.Transport { return file.New() },
	open: func(_ context.Context, b *bench) (any, func(), error) {
		return map[string]any{"path": filepath.Join(b.dir, "{kind}.jsonl"), "rotate_size": 64 << 20}, func() {}, nil
	},
}
