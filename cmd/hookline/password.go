package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/term"
)

const (
	hashCost    = 12 // a quarter of a second
	minPassword = 12 // characters
	maxPassword = 72 // bytes, which is all that bcrypt looks at
)

func hashPasswordCommand() *cobra.Command {
	return &cobra.Command{
		Use: "hash-password", Short: "Print the bcrypt hash of a password", Args: noArgs,
		Long: `Read a password, from the terminal or as the first line of the standard input, and
print its bcrypt hash: for admin.users.NAME.password or hooks.NAME.password. The
password itself is neither shown nor kept.

Exit code 0: printed; 2: there is no password, or one that bcrypt does not take.`,
		Example: "  hookline hash-password > /etc/hookline/alice.hash\n  openssl rand -base64 24 | tee alice.password | hookline hash-password",
		RunE: func(c *cobra.Command, _ []string) error {
			password, err := readPassword(c.InOrStdin(), c.ErrOrStderr())
			if err != nil {
				return err
			}
			if err := goodPassword(password); err != nil {
				return usage(err)
			}
			if utf8.RuneCountInString(password) < minPassword { // it may be one that is in use already
				fmt.Fprintf(c.ErrOrStderr(), "warning: a password of fewer than %d characters is quick to guess\n", minPassword)
			}
			hash, err := bcrypt.GenerateFromPassword([]byte(password), hashCost)
			if err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), string(hash))
			return nil
		},
	}
}

// readPassword asks twice on a terminal, where nobody sees a slip of the finger.
func readPassword(in io.Reader, ask io.Writer) (string, error) {
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		var said [2]string
		for i, prompt := range []string{"Password: ", "Again: "} {
			fmt.Fprint(ask, prompt)
			text, err := term.ReadPassword(int(f.Fd()))
			fmt.Fprintln(ask)
			if err != nil {
				return "", fmt.Errorf("the password cannot be read: %w", err)
			}
			said[i] = string(text)
		}
		if said[0] != said[1] {
			return "", usage(errors.New("the two are not the same: try again"))
		}
		return said[0], nil
	}
	// A little more than allowed, so that one that is too long is seen to be.
	line, err := bufio.NewReader(io.LimitReader(in, maxPassword+3)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("the password cannot be read: %w", err)
	}
	return strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"), nil
}

func goodPassword(s string) error {
	switch {
	case s == "":
		return errors.New("there is no password: type it, or write it to the standard input")
	case len(s) > maxPassword:
		return fmt.Errorf("the password is longer than %d bytes, which is all that bcrypt looks at: take a shorter one", maxPassword)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return errors.New("the password must be text in UTF-8, without control characters")
	}
	return nil
}
