package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hookline/hookline/core/admin"
)

// The variables that say who calls a daemon over TCP. There are no flags for a
// password: every list of processes shows those.
const (
	userVariable         = "HOOKLINE_ADMIN_USER"
	passwordVariable     = "HOOKLINE_ADMIN_PASSWORD"
	passwordFileVariable = "HOOKLINE_ADMIN_PASSWORD_FILE"
)

// daemon is where the running daemon is called.
type daemon struct {
	where string // --admin
	at    admin.Address
}

// add adds the flag. Before the command runs, at is set.
func (d *daemon) add(c *cobra.Command, flags *configFlags) {
	c.Flags().StringVar(&d.where, "admin", "", "where the daemon is: the `PATH` of its admin socket, or https://USER@HOST:PORT with the password in $"+
		passwordVariable+" or in the file $"+passwordFileVariable+"; without it, admin.listen of the configuration")
	c.PreRunE = func(c *cobra.Command, _ []string) error {
		if d.where == "" {
			d.at = admin.Address{Socket: adminSocket(flags)}
			return nil
		}
		at, err := admin.ParseAddress(d.where)
		if err != nil {
			return usage(fmt.Errorf("--admin: %w", err))
		}
		if at.URL != nil {
			if err := signIn(&at); err != nil {
				return usage(err)
			}
			if at.InTheOpen() {
				fmt.Fprintf(c.ErrOrStderr(), "warning: the password crosses the network in the open to %s: use https, or a tunnel to 127.0.0.1\n", at)
			}
		}
		d.at = at
		return nil
	}
}

// signIn finds the user and the password for a daemon over TCP.
func signIn(at *admin.Address) error {
	if at.User == "" {
		at.User = os.Getenv(userVariable)
	}
	if at.User == "" {
		return fmt.Errorf("the daemon on %s wants to know who calls: write the user as in --admin https://USER@HOST:PORT, or set %s", at, userVariable)
	}
	at.Password = os.Getenv(passwordVariable)
	file := os.Getenv(passwordFileVariable)
	switch {
	case at.Password != "" && file != "":
		return fmt.Errorf("%s and %s are both set: unset one of them", passwordVariable, passwordFileVariable)
	case at.Password != "":
		return nil
	case file == "":
		return fmt.Errorf("the password of %s is missing: set %s, or %s to the path of a file that holds it", at.User, passwordVariable, passwordFileVariable)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("%s: %w", passwordFileVariable, err)
	}
	// One newline, because editors and echo write it; a second is meant.
	at.Password = strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if at.Password == "" {
		return errors.New(passwordFileVariable + " names a file that is empty: write the password into it")
	}
	return nil
}
