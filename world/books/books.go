// Package books is what is known of a machine's past: orders, payments, events,
// sums, and what several gateways share. It tails the journal (core/journal), so
// the cores keep only what is under way and start fast.
//
// Books are a SQLite file on one machine, or a PostgreSQL database that several
// gateways share. Both are asked the same questions in the same words: columns
// are TEXT and BIGINT, times are Unix milliseconds, amounts msat.
//
// What a gateway tells is filed once, whatever is repeated: Apply writes events,
// orders, sums and the cursor that says how far it is in one transaction. All
// methods are safe for use by several goroutines.
package books

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

const (
	// callWait is how long a question may take whose context has no deadline. A
	// gateway that is cut off from its database learns it after so long.
	callWait = 10 * time.Second
	// statementWait is callWait for a payer's month, who may have bought all of it.
	statementWait = time.Minute
	// maxConns bounds the connections to PostgreSQL of one gateway, maxReaders
	// those to a SQLite file besides the one that writes.
	maxConns   = 8
	maxReaders = 4
	// serverWait is after how many milliseconds of silence PostgreSQL gives up a
	// gateway's transaction: others wait for its locks.
	serverWait = "15000"
)

// What is kept. Orders, payments and sums are kept for ever: a million orders of
// ten thousand devices are some 700 MB.
const (
	// KeepEvents is how many events can be read again, by whoever follows them and
	// for webhooks.
	KeepEvents = 200_000
	// KeepAnswers is how long an answer to an Idempotency-Key is remembered, in
	// milliseconds, and MaxAnswers how many.
	KeepAnswers = 24 * 60 * 60 * 1000
	MaxAnswers  = 100_000
	// MaxEndpoints bounds webhook receivers.
	MaxEndpoints = 32
	// MaxPage bounds what one call returns, in rows.
	MaxPage = 500
)

var (
	// ErrNewer means that a newer version wrote the books.
	ErrNewer = errors.New("books were written by a newer coinop")
	// ErrUnknown means there is no such order, device, endpoint or delivery.
	ErrUnknown = errors.New("the books know nothing of it")
)

// Books are open books.
type Books struct {
	gateway string
	write   *database
	read    *database // the same as write, in PostgreSQL
	shared  bool      // PostgreSQL

	writing sync.Mutex // a SQLite file has one writer at a time

	last atomic.Uint64 // number of the last event seen
	mu   sync.Mutex
	news chan struct{} // closed and made again when last grows
	seen time.Time     // when last was read from the database
}

var gatewayName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// Open opens sqlite:///path, sqlite:relative/path or postgres://user@host/database,
// makes the tables or brings them up to date, and speaks for the gateway of that
// name: of at most 64 of a-z 0-9 . _ -, and no other's in the same database.
// Before a SQLite file of an older version is changed it is copied beside itself.
func Open(ctx context.Context, uri, gateway string) (*Books, error) {
	if !gatewayName.MatchString(gateway) {
		return nil, fmt.Errorf("books: gateway %.80q is no name; give it at most 64 of a-z 0-9 . _ -", gateway)
	}
	u, err := url.Parse(uri)
	if err != nil {
		return nil, errors.New("books: the address is not a URI; write sqlite:///path or postgres://user@host/database")
	}
	b := &Books{gateway: gateway, news: make(chan struct{})}
	var backup func(context.Context, int) error
	switch u.Scheme {
	case "sqlite":
		backup, err = b.openSQLite(ctx, u)
	case "postgres", "postgresql":
		err = b.openPostgres(u)
	default:
		err = errors.New("write sqlite:///path or postgres://user@host/database")
	}
	if err != nil {
		return nil, fmt.Errorf("books %s: %w", u.Redacted(), err)
	}
	if err = b.migrate(ctx, migrations(), backup); err == nil {
		_, err = b.newest(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("books %s: %w", u.Redacted(), err), b.Close())
	}
	return b, nil
}

func (b *Books) openPostgres(u *url.URL) error {
	server, query := *u, u.Query()
	query.Del("machine") // of world/store/postgres, which may use the same address
	query.Del("takeover")
	for name, value := range map[string]string{
		// A plan made for an empty table, or for a state that most orders are in,
		// must not serve for others.
		"plan_cache_mode": "force_custom_plan",
		"connect_timeout": "5", "idle_in_transaction_session_timeout": serverWait,
		"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "4",
	} {
		if !query.Has(name) {
			query.Set(name, value)
		}
	}
	server.RawQuery = query.Encode()
	db, err := sql.Open("pgx", server.String())
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(maxConns)
	db.SetMaxIdleConns(maxConns)
	b.write = &database{DB: db, numbered: true}
	b.read, b.shared = b.write, true
	return nil
}

// Close waits for what is under way.
func (b *Books) Close() error {
	err := b.write.Close()
	if b.read != b.write {
		err = errors.Join(err, b.read.Close())
	}
	return err
}
