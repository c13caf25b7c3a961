package books

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"strings"
	"time"
)

//go:embed migrations/*.sql
var files embed.FS

// migrateWait is how long the steps may take together, and the copy before them: a
// million orders are read again for some.
const migrateWait = 30 * time.Minute

// forSQLite uncovers what other databases take for a comment.
var forSQLite = strings.NewReplacer("/*sqlite ", "", "*/", "")

// migrations are the steps from each version to the next, the first from 0.
func migrations() (steps []string) {
	names, err := fs.Glob(files, "migrations/*.sql") // in order
	for _, name := range names {
		var text []byte
		if text, err = files.ReadFile(name); err == nil {
			steps = append(steps, string(text))
		}
	}
	if err != nil {
		panic(err) // it is in the binary
	}
	return steps
}

// migrate brings the books to the newest version, all steps or none. backup, if
// there is one, is called before books that hold something are changed.
func (b *Books) migrate(ctx context.Context, steps []string, backup func(context.Context, int) error) error {
	ctx, cancel := context.WithTimeout(ctx, migrateWait)
	defer cancel()
	err := b.change(ctx, func(c change) error {
		if err := b.alone(c); err != nil {
			return err
		}
		_, err := c.tx.ExecContext(c.ctx, "CREATE TABLE IF NOT EXISTS books_version (version BIGINT NOT NULL)")
		return err
	})
	if err != nil {
		return err
	}
	version, err := b.version(ctx, steps)
	if err != nil || version == len(steps) {
		return err
	}
	if version > 0 && backup != nil {
		if err := backup(ctx, version); err != nil {
			return fmt.Errorf("copy before the change from version %d: %w; nothing was changed", version, err)
		}
	}
	return b.change(ctx, func(c change) error {
		if err := b.alone(c); err != nil {
			return err
		}
		// Another gateway may have been first.
		if _, err := c.one("SELECT COALESCE(MAX(version), 0) FROM books_version", nil, &version); err != nil {
			return err
		}
		for ; version < len(steps); version++ {
			step := steps[version]
			if !b.shared {
				step = forSQLite.Replace(step)
			}
			if _, err := c.tx.ExecContext(ctx, step); err != nil {
				return fmt.Errorf("to version %d: %w", version+1, err)
			}
			if _, err := c.exec("INSERT INTO books_version (version) VALUES (?)", version+1); err != nil {
				return err
			}
		}
		return nil
	})
}

// version is the books' own, 0 if they are new.
func (b *Books) version(ctx context.Context, steps []string) (version int, err error) {
	if _, err = b.one(ctx, "SELECT COALESCE(MAX(version), 0) FROM books_version", nil, &version); err != nil {
		return 0, err
	}
	if version > len(steps) {
		return 0, fmt.Errorf("%w: their version is %d and this build reads up to %d; use the newer one", ErrNewer, version, len(steps))
	}
	return version, nil
}

// alone has only one gateway at a time change tables. A SQLite file has one
// writer anyway.
func (b *Books) alone(c change) error {
	if !b.shared {
		return nil
	}
	_, err := c.exec("SELECT pg_advisory_xact_lock(hashtextextended('coinop books', 0))")
	return err
}
