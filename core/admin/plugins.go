package admin

import (
	"context"
	"net/http"
)

// Plugin is the process of a transport as it stands.
type Plugin struct {
	Transport string `json:"transport"` // its name in the configuration
	Plugin    string `json:"plugin"`    // as it names itself
	Version   string `json:"version"`
	BuiltIn   bool   `json:"built_in"`
	Pinned    bool   `json:"pinned"` // its file must have the configured sha256

	State    string `json:"state"`           // "running", "starting", "crash-loop" or "stopped"
	PID      int    `json:"pid,omitempty"`   // absent while it does not run
	Since    *Time  `json:"since,omitempty"` // of this process
	Restarts int    `json:"restarts"`
	// LastEnd is why the process before ended. It can hold the plugin's words.
	LastEnd  string `json:"last_end,omitempty" access:"read"`
	InFlight int    `json:"in_flight"` // attempts that it is at work on

	MemoryBytes int64   `json:"memory_bytes,omitempty"` // resident; absent where the system does not tell
	CPUSeconds  float64 `json:"cpu_seconds,omitempty"`  // of this process
}

// PluginList are the plugins of the configuration in force, in its order.
type PluginList struct {
	Plugins []Plugin `json:"plugins"`
}

func (a *api) plugins(r *http.Request) (any, error) {
	if _, err := query(r, nil); err != nil {
		return nil, err
	}
	list := PluginList{Plugins: []Plugin{}}
	if a.Plugins != nil {
		list.Plugins = append(list.Plugins, a.Plugins()...)
	}
	return list, nil
}

// Plugins lists the processes of the transports.
func (c *Client) Plugins(ctx context.Context) (*PluginList, error) {
	return get[PluginList](ctx, c, "/v1/plugins", nil)
}
