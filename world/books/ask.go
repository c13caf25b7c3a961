package books

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
	"sync"
)

// A database is asked each question in the same words. Both kinds keep what they
// have prepared: pgx for itself, SQLite's here.
type database struct {
	*sql.DB
	numbered bool     // parameters are $1, $2, … and not ?
	asked    sync.Map // by the words: *sql.Stmt, or the words with numbers
}

// A question is ready to be asked.
type question interface {
	QueryContext(context.Context, ...any) (*sql.Rows, error)
	ExecContext(context.Context, ...any) (sql.Result, error)
}

// question prepares words for t, or for no transaction if t is nil.
func (db *database) question(ctx context.Context, words string, t *sql.Tx) (question, error) {
	known, ok := db.asked.Load(words)
	if !ok && db.numbered {
		known = numbered(words)
		db.asked.Store(words, known)
	} else if !ok {
		stmt, err := db.PrepareContext(ctx, words)
		if err != nil {
			return nil, err
		}
		var raced bool
		if known, raced = db.asked.LoadOrStore(words, stmt); raced {
			stmt.Close()
		}
	}
	switch q := known.(type) {
	case *sql.Stmt:
		if t != nil {
			return t.StmtContext(ctx, q), nil
		}
		return q, nil
	default:
		if t != nil {
			return spoken{t, q.(string)}, nil
		}
		return spoken{db.DB, q.(string)}, nil
	}
}

// spoken is a question in words.
type spoken struct {
	to interface {
		QueryContext(context.Context, string, ...any) (*sql.Rows, error)
		ExecContext(context.Context, string, ...any) (sql.Result, error)
	}
	words string
}

func (s spoken) QueryContext(ctx context.Context, args ...any) (*sql.Rows, error) {
	return s.to.QueryContext(ctx, s.words, args...)
}

func (s spoken) ExecContext(ctx context.Context, args ...any) (sql.Result, error) {
	return s.to.ExecContext(ctx, s.words, args...)
}

// numbered turns each ? into $1, $2, …; no question has one in its text.
func numbered(words string) string {
	var out strings.Builder
	n := 0
	for part := range strings.SplitAfterSeq(words, "?") {
		text, more := strings.CutSuffix(part, "?")
		out.WriteString(text)
		if more {
			n++
			out.WriteString("$" + strconv.Itoa(n))
		}
	}
	return out.String()
}

// rows asks outside of any transaction and calls each for every row.
func (b *Books) rows(ctx context.Context, words string, args []any, each func(*sql.Rows) error) error {
	ctx, cancel := inTime(ctx)
	defer cancel()
	return ask(ctx, b.read, nil, words, args, each)
}

func inTime(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, set := ctx.Deadline(); set {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, callWait)
}

func ask(ctx context.Context, db *database, t *sql.Tx, words string, args []any, each func(*sql.Rows) error) error {
	q, err := db.question(ctx, words, t)
	if err != nil {
		return err
	}
	rows, err := q.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// A change is a transaction under way.
type change struct {
	tx  *sql.Tx
	ctx context.Context
	db  *database
}

// change runs f in a transaction, which is undone if f fails.
func (b *Books) change(ctx context.Context, f func(change) error) error {
	ctx, cancel := inTime(ctx)
	defer cancel()
	if !b.shared {
		b.writing.Lock()
		defer b.writing.Unlock()
	}
	tx, err := b.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(change{tx, ctx, b.write}); err != nil {
		tx.Rollback()
		return err
	}
	return tx.Commit()
}

// exec returns how many rows it changed.
func (c change) exec(words string, args ...any) (int64, error) {
	q, err := c.db.question(c.ctx, words, c.tx)
	if err != nil {
		return 0, err
	}
	result, err := q.ExecContext(c.ctx, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (c change) rows(words string, args []any, each func(*sql.Rows) error) error {
	return ask(c.ctx, c.db, c.tx, words, args, each)
}

// one reads one row into into, and reports whether there is one.
func (c change) one(words string, args []any, into ...any) (found bool, err error) {
	err = c.rows(words, args, func(r *sql.Rows) error { found = true; return r.Scan(into...) })
	return found, err
}

// one is change.one outside of any transaction.
func (b *Books) one(ctx context.Context, words string, args []any, into ...any) (found bool, err error) {
	err = b.rows(ctx, words, args, func(r *sql.Rows) error { found = true; return r.Scan(into...) })
	return found, err
}

// insertions are how many rows go into one statement, the most first.
var insertions = [...]int{64, 8, 1}

// insert writes many rows, each with as many values, in few statements: head is
// INSERT INTO t (…) VALUES, tail ON CONFLICT … .
func (c change) insert(head, tail string, rows [][]any) error {
	for _, n := range insertions {
		for len(rows) >= n {
			row := "(" + strings.Repeat("?, ", len(rows[0])-1) + "?)"
			var args []any
			for _, r := range rows[:n] {
				args = append(args, r...)
			}
			if _, err := c.exec(head+" "+row+strings.Repeat(", "+row, n-1)+" "+tail, args...); err != nil {
				return err
			}
			rows = rows[n:]
		}
	}
	return nil
}
