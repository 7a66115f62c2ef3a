package app_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/hookline/hookline/core/app"
	"github.com/hookline/hookline/core/config"
)

// runDaemon is the daemon in a process of its own, to be killed. It prints its
// address.
func runDaemon(path string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	a, err := app.New(ctx, app.Options{
		Load: func() (*config.Config, error) { return config.Load(path, nil, os.Environ()) },
		Log:  slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	fmt.Println(a.Addrs()[0])
	if err := a.Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// activate becomes the program that args name, as systemd starts it: LISTEN_PID
// is the pid that it will have.
func activate(args []string) int {
	exe, err := os.Executable()
	if err == nil {
		env := append(os.Environ(), "LISTEN_PID="+strconv.Itoa(os.Getpid()), "LISTEN_FDS=1")
		err = syscall.Exec(exe, append([]string{exe}, args...), env)
	}
	fmt.Fprintln(os.Stderr, err)
	return 3
}
