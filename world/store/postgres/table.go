package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"coinop.dev/core/step"
	"coinop.dev/world/store"
)

// An index takes entries of some 2,700 bytes and a key may have store.MaxKey. So
// keys are found by their beginning and, if they go on after it, by a hash.
const (
	head = "substr(KEY, 1, 1024)"
	tail = "(CASE WHEN length(KEY) > 1024 THEN sha256(KEY) ELSE ''::bytea END)"
)

// of puts the head or tail of a column or parameter into SQL.
func of(expression, key string) string { return strings.ReplaceAll(expression, "KEY", key) }

var (
	tables = `
		CREATE TABLE IF NOT EXISTS machines (machine text PRIMARY KEY, epoch bigint NOT NULL);
		CREATE TABLE IF NOT EXISTS records (machine text NOT NULL, key bytea NOT NULL, value bytea NOT NULL);
		CREATE UNIQUE INDEX IF NOT EXISTS records_by_key ON records (machine, ` + of(head, "key") + `, ` + of(tail, "key") + `)`

	// commit deletes $3 and writes $4 = $5 if the epoch is still ours, and says
	// whether it is. The lock on the machine's row makes whoever raises the epoch
	// wait for it.
	commit = `
		WITH mine AS (SELECT 1 FROM machines WHERE machine = $1 AND epoch = $2 FOR SHARE),
		gone AS (
			DELETE FROM records r USING unnest($3::bytea[]) AS d(key)
			WHERE EXISTS (SELECT FROM mine) AND r.machine = $1
			AND ` + of(head, "r.key") + ` = ` + of(head, "d.key") + ` AND ` + of(tail, "r.key") + ` = ` + of(tail, "d.key") + `),
		put AS (
			INSERT INTO records (machine, key, value)
			SELECT $1, n.key, n.value FROM unnest($4::bytea[], $5::bytea[]) AS n(key, value) WHERE EXISTS (SELECT FROM mine)
			ON CONFLICT (machine, ` + of(head, "key") + `, ` + of(tail, "key") + `) DO UPDATE SET value = excluded.value)
		SELECT count(*) FROM mine`

	get = `SELECT value FROM records WHERE machine = $1
		AND ` + of(head, "key") + ` = ` + of(head, "$2::bytea") + ` AND ` + of(tail, "key") + ` = ` + of(tail, "$2::bytea")

	scanFrom = `SELECT key, value FROM records WHERE machine = $1 AND ` + of(head, "key") + ` >= ` + of(head, "$2::bytea") + ` AND key >= $2`
	scanTo   = ` AND ` + of(head, "key") + ` <= ` + of(head, "$3::bytea") + ` AND key < $3`
	inOrder  = ` ORDER BY ` + of(head, "key") + `, key`
)

// lockID is the number that stands for machine $1 among a database's locks.
const lockID = "hashtextextended('coinop/' || current_schema() || '/' || $1, 0)"

// table is the records of a machine behind the guard.
type table struct {
	machine string
	epoch   int64
	readers *pgxpool.Pool

	mu     sync.Mutex // one commit at a time
	writer *pgx.Conn  // holds the lock
	failed bool
}

// makeDurable has the session keep what a nil from Commit promises.
func (t *table) makeDurable(ctx context.Context) error {
	var fsync string
	if err := t.writer.QueryRow(ctx, "SELECT current_setting('fsync')").Scan(&fsync); err != nil {
		return err
	}
	if fsync != "on" {
		return fmt.Errorf("the server has fsync = %s and would lose paid orders with the power; turn it on", fsync)
	}
	// remote_apply, where a standby confirms too, stays. Statements here touch few
	// rows by their index, which a planner without statistics does not know.
	_, err := t.writer.Exec(ctx, `
		SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') <> 'remote_apply';
		SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off`)
	return err
}

// makeTables makes the tables if they are missing, one process at a time.
func (t *table) makeTables(ctx context.Context) error {
	_, err := t.writer.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended('coinop tables', 0)); "+tables)
	return err
}

// lock takes the machine's lock for the session.
func (t *table) lock(ctx context.Context, takeover bool) error {
	if takeover {
		_, err := t.writer.Exec(ctx, `SELECT pg_terminate_backend(pid, 5000) FROM pg_locks
			WHERE locktype = 'advisory' AND objsubid = 1 AND pid <> pg_backend_pid()
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
			AND (classid::bigint << 32 | objid::bigint) = `+lockID, t.machine)
		if err != nil {
			return fmt.Errorf("takeover: %w", err)
		}
	}
	for deadline := time.Now().Add(lockWait); ; time.Sleep(lockWait / 20) {
		var ours bool
		if err := t.writer.QueryRow(ctx, "SELECT pg_try_advisory_lock("+lockID+")", t.machine).Scan(&ours); err != nil || ours {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w: machine %s is open; stop that one, give this one another name, or add takeover=yes if its host is out of reach", store.ErrLocked, t.machine)
		}
	}
}

// raiseEpoch waits for a commit of the last epoch that is still under way, and
// ends that epoch.
func (t *table) raiseEpoch(ctx context.Context) error {
	return t.writer.QueryRow(ctx, `INSERT INTO machines (machine, epoch) VALUES ($1, 1)
		ON CONFLICT (machine) DO UPDATE SET epoch = machines.epoch + 1 RETURNING epoch`, t.machine).Scan(&t.epoch)
}

func (t *table) Commit(records []step.Record) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed {
		return store.ErrFailed // it overtook the guard
	}
	err := t.commit(records)
	t.failed = err != nil
	return err
}

func (t *table) commit(records []step.Record) error {
	ctx, cancel := context.WithTimeout(context.Background(), commitWait)
	defer cancel()
	last := make(map[string]int, len(records)) // of two records with one key the later wins
	for i, r := range records {
		last[r.Key] = i
	}
	gone, keys, values := [][]byte{}, make([][]byte, 0, len(last)), make([][]byte, 0, len(last))
	for i, r := range records {
		switch {
		case last[r.Key] != i:
		case r.Value == nil:
			gone = append(gone, []byte(r.Key))
		default:
			keys, values = append(keys, []byte(r.Key)), append(values, r.Value)
		}
	}
	var mine int
	err := t.writer.QueryRow(ctx, commit, t.machine, t.epoch, gone, keys, values).Scan(&mine)
	switch {
	case err != nil:
		return fmt.Errorf("%w; if the answer was lost it may have happened, open the store again to see", err)
	case mine == 0:
		return fmt.Errorf("%w: machine %s was opened elsewhere after epoch %d, which was this process's", store.ErrLocked, t.machine, t.epoch)
	}
	return nil
}

func (t *table) Get(key string) (value []byte, err error) {
	err = t.readers.QueryRow(context.Background(), get, t.machine, []byte(key)).Scan(&value)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return value, err
}

// Scan streams: what yield has not asked for is still on the server.
func (t *table) Scan(prefix string, yield func(string, []byte) bool) error {
	start, end := store.Range(prefix)
	query, args := scanFrom+inOrder, []any{t.machine, []byte(start)}
	if end != "" {
		query, args = scanFrom+scanTo+inOrder, append(args, []byte(end))
	}
	rows, err := t.readers.Query(context.Background(), query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var key, value []byte
		if err := rows.Scan(&key, &value); err != nil {
			return err
		}
		if !yield(string(key), value) {
			return nil
		}
	}
	return rows.Err()
}

func (t *table) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), commitWait)
	defer cancel()
	t.readers.Close()
	return t.writer.Close(ctx)
}
