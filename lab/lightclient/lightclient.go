// Package lightclient is the process that lab light starts: a light client and
// nothing else, so that what it costs can be measured in a small build too.
package lightclient

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"path/filepath"
	"time"

	"coinop.dev/core/bitcoin/header/headertest"
	"coinop.dev/core/step"
	"coinop.dev/world/chain/p2p"
	"coinop.dev/world/store/bbolt"
)

// Patience bounds a run.
const Patience = 10 * time.Minute

// A Question is what the process is started with.
type Question struct {
	Addr, Dir string
	Headers   int32 // of the chain that the node at Addr serves
}

// An Answer is what the run took. What cannot be measured here is nil.
type Answer struct {
	SyncMs  *float64 `json:"sync_ms"` // from opening the store until it has all headers and filter headers
	CPUMs   *float64 `json:"cpu_ms"`
	PeakMiB *float64 `json:"peak_rss_mib"`
	Private *float64 `json:"private_mib"` // at the end, without the program's pages
}

// farAhead is the clock: the made-up chain's end may be in our future.
func farAhead() step.Time { return step.Time(time.Now().AddDate(100, 0, 0).UnixMilli()) }

// Run opens a client, waits until it has the whole chain, and says what that took.
func Run(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	var q Question
	if err := json.NewDecoder(in).Decode(&q); err != nil {
		return err
	}
	began := time.Now()
	db, err := bbolt.Open(filepath.Join(q.Dir, "chain"))
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, db.Close()) }()
	c, err := p2p.Open(p2p.Options{Addrs: []string{q.Addr}, Rules: headertest.Params(), DB: db, Birthday: q.Headers, Now: farAhead})
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		changed := c.Changed()
		if height, _, err := c.Tip(ctx); err == nil && height == q.Headers {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	a := usage()
	ms := time.Since(began).Seconds() * 1e3
	a.SyncMs = &ms
	return json.NewEncoder(out).Encode(a)
}
