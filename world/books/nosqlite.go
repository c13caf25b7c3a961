//go:build !((linux && (386 || amd64 || arm || arm64 || loong64 || ppc64le || riscv64 || s390x)) || (darwin && (amd64 || arm64)) || (freebsd && (amd64 || arm64)) || (windows && (amd64 || arm64)))

package books

import (
	"context"
	"errors"
	"net/url"
	"runtime"
)

// openSQLite says that SQLite is not built for this platform, which MIPS is.
func (b *Books) openSQLite(context.Context, *url.URL) (func(context.Context, int) error, error) {
	return nil, errors.New("this build for " + runtime.GOOS + "/" + runtime.GOARCH + " has no SQLite; keep the books in postgres://user@host/database")
}
