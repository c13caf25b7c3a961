//go:build (linux && (386 || amd64 || arm || arm64 || loong64 || ppc64le || riscv64 || s390x)) || (darwin && (amd64 || arm64)) || (freebsd && (amd64 || arm64)) || (windows && (amd64 || arm64))

package books

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"coinop.dev/world/store"
)

// openSQLite opens a file that only its owner can read. A commit is synced: what
// it holds is then dropped from the journal.
func (b *Books) openSQLite(ctx context.Context, u *url.URL) (backup func(context.Context, int) error, err error) {
	path, err := store.Path(u)
	if err != nil {
		return nil, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, err
	}
	if err := store.MakeDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	name := "file:" + (&url.URL{Path: path}).EscapedPath() +
		"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=cache_size(-8000)&_pragma=temp_store(MEMORY)"
	writer, err := sql.Open("sqlite", name+"&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	// One writes (Books.writing) and one prepares.
	writer.SetMaxOpenConns(2)
	reader, err := sql.Open("sqlite", name+"&_pragma=query_only(1)")
	if err != nil {
		return nil, err
	}
	reader.SetMaxOpenConns(maxReaders)
	reader.SetMaxIdleConns(maxReaders)
	b.write, b.read = &database{DB: writer}, &database{DB: reader}
	return func(ctx context.Context, version int) error {
		copied := fmt.Sprintf("%s.v%d.backup", path, version)
		if err := store.Replace(copied+".new", nil); err != nil { // empty, and the owner's only
			return err
		}
		if _, err := b.write.ExecContext(ctx, "VACUUM INTO ?", copied+".new"); err != nil {
			return err
		}
		if err := os.Rename(copied+".new", copied); err != nil {
			return err
		}
		return store.SyncDir(filepath.Dir(path))
	}, nil
}
