package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// The databases that a journal can be kept in.
const (
	keeperMemory   = "memory" // for tests: it shows what the disk hides
	keeperSQLite   = "sqlite"
	keeperPostgres = "postgres"
)

// keeperNames are what --only calls the databases of a section.
func keeperNames(section string, keepers []string) (out []string) {
	for _, k := range keepers {
		out = append(out, section+"-"+k)
	}
	return out
}

// wanted are those of a section's databases that are to run.
func (o *options) wanted(section string, keepers []string) (out []string) {
	for _, k := range keepers {
		if len(o.only) == 0 || slices.Contains(o.only, section) || slices.Contains(o.only, section+"-"+k) {
			out = append(out, k)
		}
	}
	return out
}

// errAbsent means that there is no such database or server here, which is no fault.
var errAbsent = errors.New("not here")

// newJournal is the URL of a journal that is empty, and remove takes it away.
func (b *bench) newJournal(ctx context.Context, keeper string) (journal string, remove func(), err error) {
	switch keeper {
	case keeperMemory:
		return "memory:", func() {}, nil
	case keeperPostgres:
		return newSchema(ctx)
	}
	dir, err := os.MkdirTemp(b.dir, "journal-")
	if err != nil {
		return "", nil, err
	}
	return "sqlite:" + filepath.Join(dir, "journal.db"), func() { _ = os.RemoveAll(dir) }, nil
}

// postgresEnv names a Postgres as for Hookline's tests.
const (
	postgresEnv     = "HOOKLINE_TEST_POSTGRES"
	postgresDefault = "postgres://postgres@127.0.0.1:5432/test?sslmode=disable"
	postgresTimeout = 10 * time.Second
)

// newSchema makes a schema of its own in the database.
func newSchema(ctx context.Context) (journal string, drop func(), err error) {
	raw := cmp.Or(os.Getenv(postgresEnv), postgresDefault)
	name := "hookline_bench_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	journal, err = inSchema(raw, name)
	if err != nil {
		return "", nil, err
	}
	if err := postgresDo(ctx, raw, "create schema "+name); err != nil {
		// pgx's own text may quote the URL.
		return "", nil, fmt.Errorf("%w: the Postgres of %s does not take a new schema: start one, or let the variable name another", errAbsent, postgresEnv)
	}
	return journal, func() {
		// Not ctx: an interrupted run leaves nothing behind either.
		_ = postgresDo(context.WithoutCancel(ctx), raw, "drop schema "+name+" cascade")
	}, nil
}

// inSchema is the URL with another search path.
func inSchema(raw, name string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return "", fmt.Errorf("%s must be a URL: postgres://USER@HOST:PORT/DATABASE", postgresEnv)
	}
	v := u.Query()
	v.Set("search_path", name)
	u.RawQuery = v.Encode()
	return u.String(), nil
}

func postgresDo(ctx context.Context, raw, text string) error {
	ctx, cancel := context.WithTimeout(ctx, postgresTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, raw)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, text)
	return err
}
