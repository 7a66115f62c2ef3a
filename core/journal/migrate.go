package journal

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations
var migrations embed.FS

// provider holds all that goose needs: nothing of it is global.
func provider(dialect goose.Dialect, folder string, db *sql.DB, opts ...goose.ProviderOption) (*goose.Provider, error) {
	files, err := fs.Sub(migrations, "migrations/"+folder)
	if err != nil {
		return nil, err
	}
	opts = append(opts, goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	return goose.NewProvider(dialect, db, files, opts...)
}

// versions are the schema's version in the database and the newest one known.
func versions(ctx context.Context, p *goose.Provider) (have, know int64, err error) {
	have, know, err = p.GetVersions(ctx)
	if err == nil && have > know {
		err = &NewerSchemaError{Have: have, Know: know}
	}
	return have, know, err
}

func migrateSQLite(ctx context.Context, db *sql.DB, path string, fresh bool, log *slog.Logger) error {
	p, err := provider(goose.DialectSQLite3, "sqlite", db)
	if err != nil {
		return fmt.Errorf("journal: migrations: %w", err)
	}
	have, know, err := versions(ctx, p)
	if err != nil {
		return journalError(err)
	}
	if have == know {
		return nil
	}
	if have > 0 && !fresh {
		if err := backup(ctx, db, path, have, log); err != nil {
			return err
		}
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("journal: migration of %s: %w", path, err)
	}
	if have == 0 && path != "" {
		log.Info("new journal", "file", path)
	}
	return nil
}

// backup copies the journal before a migration. An older copy is never replaced:
// it may be the one from before a migration that went wrong.
func backup(ctx context.Context, db *sql.DB, path string, version int64, log *slog.Logger) error {
	name := fmt.Sprintf("%s.before-v%d.bak", path, version+1)
	for n := 2; ; n++ {
		// VACUUM INTO takes an empty file, and this one has the right mode.
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
		if errors.Is(err, fs.ErrExist) {
			name = fmt.Sprintf("%s.before-v%d.%d.bak", path, version+1, n)
			continue
		}
		if err == nil {
			err = errors.Join(f.Chmod(fileMode), f.Close())
		}
		if err == nil {
			_, err = db.ExecContext(ctx, "vacuum into '"+strings.ReplaceAll(name, "'", "''")+"'")
		}
		if err != nil {
			return fmt.Errorf("journal: backup %s before the migration: %w: make room and start again; nothing was migrated", name, err)
		}
		log.Info("the journal was copied before its migration", "backup", name, "schema", version)
		return nil
	}
}

func migratePostgres(ctx context.Context, db *sql.DB, url string, log *slog.Logger) error {
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 60))
	if err != nil {
		return fmt.Errorf("journal: migrations: %w", err)
	}
	p, err := provider(goose.DialectPostgres, "postgres", db, goose.WithSessionLocker(locker))
	if err != nil {
		return fmt.Errorf("journal: migrations: %w", err)
	}
	have, know, err := versions(ctx, p)
	if err != nil {
		return journalError(err)
	}
	if have == know {
		return nil
	}
	if have > 0 {
		log.Warn("the journal is migrated, and Hookline makes no backup of a Postgres database", "schema", have, "to", know)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("journal: migration: %w", err)
	}
	if have == 0 {
		log.Info("new journal", "url", url)
	}
	return nil
}

func journalError(err error) error {
	var newer *NewerSchemaError
	if err == nil || errors.As(err, &newer) {
		return err
	}
	return fmt.Errorf("journal: %w", err)
}
