package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/hookline/hookline/plugins"
)

// attach connects to a plugin that somebody runs by hand, instead of starting one.
func (c *Child) attach(ctx context.Context) (*launched, error) {
	text, err := os.ReadFile(c.spec.Attach)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("start of %s: nobody has attached: run the plugin with %s=%s", c.spec.Name, plugins.AttachEnv, c.spec.Attach)
	}
	if err != nil {
		return nil, fmt.Errorf("start of %s: %w", c.spec.Name, err)
	}
	var at plugins.Attached
	if err := json.Unmarshal(text, &at); err != nil {
		return nil, fmt.Errorf("start of %s: %s is not what a plugin writes: %w", c.spec.Name, c.spec.Attach, err)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	conn, err := grpc.NewClient("unix:"+at.Socket, append(DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		return nil, fmt.Errorf("start of %s: %w", c.spec.Name, err)
	}
	conn.Connect()
	watching, stop := context.WithCancel(context.Background())
	l := &launched{process: &process{
		client: plugins.NewClient(conn), pid: at.PID, since: time.Now(),
		kill: func() { _ = conn.Close() }, // the process is its user's
		gone: make(chan struct{}),
	}}
	var watcher sync.WaitGroup
	watcher.Go(func() { watch(watching, conn, l.process.gone) })
	// Nobody asks for its health: at a breakpoint it gives no answer.
	l.cleanup = append(l.cleanup, func() { stop(); watcher.Wait(); _ = conn.Close() })
	if err := c.setUp(ctx, l.process); err != nil {
		l.end()
		return nil, fmt.Errorf("start of %s, attached: %w", c.spec.Name, c.spec.Redact.Error(err))
	}
	return l, nil
}
