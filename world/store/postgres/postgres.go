// Package postgres is a store in PostgreSQL: the records of many machines in one
// database, each under its name.
//
// A commit is one statement, so one round trip and one transaction, on the one
// connection that also holds the machine's lock. Two things keep a second process
// of the same name from writing beside the first. The lock is the session's:
// whoever opens while it is held gets ErrLocked, and when the connection is lost
// the lock is free and the store has failed, both at once. The epoch is a number
// that every opening raises and every commit checks; it also holds where a pooler
// between the process and the database shares sessions out.
//
// A commit whose answer is lost may have happened or not. The store has then
// failed, as store.DB has it: open it again and load.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"coinop.dev/world/store"
)

const (
	// commitWait is how long a commit waits for its answer: longer than a busy
	// database takes, shorter than a TCP connection to nowhere lives.
	commitWait = 10 * time.Second
	// openWait is how long Open waits for its connection and its tables.
	openWait = 15 * time.Second
	// lockWait is how long Open waits for another process to let go: enough for a
	// restart to overtake the old process, short for a human.
	lockWait = time.Second
	// maxReaders bounds the connections that Get and Scan share.
	maxReaders = 4
)

// MachineName says which names a machine may have.
var MachineName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// A DB is the records of one machine.
type DB struct{ *store.Guard }

// Counts counts commits. What the server writes and syncs is the server's to
// count.
func (db *DB) Counts() store.Counts { return store.Counts{Commits: db.Commits()} }

// An Address is what a URI says.
type Address struct {
	Machine  string
	Takeover bool     // end the session of whoever has the machine open
	Server   *url.URL // the rest, as pgx reads it
}

// ParseAddress reads postgres://user@host/database?machine=NAME. Besides those of
// PostgreSQL itself (sslmode, sslrootcert, …) there is one more option:
// takeover=yes opens a machine that another process has open, which then fails;
// for a host that is out of reach.
func ParseAddress(u *url.URL) (Address, error) {
	query, server := u.Query(), *u
	a := Address{Machine: query.Get("machine"), Takeover: query.Get("takeover") == "yes", Server: &server}
	query.Del("machine")
	query.Del("takeover")
	server.RawQuery = query.Encode()
	if !MachineName.MatchString(a.Machine) {
		return a, fmt.Errorf("store %s: machine %.80q is no name; write postgres://user@host/database?machine=NAME, of at most 64 of a-z 0-9 . _ -", u.Redacted(), a.Machine)
	}
	return a, nil
}

// OpenURL opens postgres://user@host/database?machine=NAME, and makes its tables
// if they are missing.
func OpenURL(u *url.URL) (store.DB, error) {
	a, err := ParseAddress(u)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("postgres://%s%s?machine=%s", u.Host, u.Path, a.Machine)
	ctx, cancel := context.WithTimeout(context.Background(), openWait)
	defer cancel()
	t, err := open(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", name, err)
	}
	g, err := store.NewGuard(name, t)
	if err != nil {
		return nil, err
	}
	return &DB{g}, nil
}

func open(ctx context.Context, a Address) (*table, error) {
	config, err := pgxpool.ParseConfig(a.Server.String())
	if err != nil {
		return nil, err
	}
	// A server that hears nothing of a host for half a minute gives its lock free.
	for name, value := range map[string]string{
		"application_name": "coinop " + a.Machine, "tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "4",
	} {
		config.ConnConfig.RuntimeParams[name] = value
	}
	config.MaxConns = maxReaders
	t := &table{machine: a.Machine}
	if t.writer, err = pgx.ConnectConfig(ctx, config.ConnConfig.Copy()); err != nil {
		return nil, err
	}
	// A plan made while the table was empty must not serve when it is full.
	config.ConnConfig.RuntimeParams["plan_cache_mode"] = "force_custom_plan"
	if t.readers, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return nil, errors.Join(err, t.writer.Close(ctx))
	}
	for _, do := range []func(context.Context) error{
		t.makeDurable, t.makeTables,
		func(ctx context.Context) error { return t.lock(ctx, a.Takeover) }, t.raiseEpoch,
	} {
		if err := do(ctx); err != nil {
			return nil, errors.Join(err, t.Close())
		}
	}
	return t, nil
}
