package electrum

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/header"
	"coinop.dev/core/step"
)

// maxBranch bounds the headers of a branch that has not yet more work than ours.
// A chain keeps no more than that below its tip.
const maxBranch = 2 * HeaderChunk

// A remote is one server.
type remote struct {
	client  *Client
	address Address

	following sync.Mutex     // held while headers are asked for
	low       chainhash.Hash // its tip, the last time it had too little work

	mu      sync.Mutex
	conn    *conn // nil unless it can be asked
	trouble error // why there is no connection

	// The status of each history that was last taken in, under the client's mutex.
	told map[chainhash.Hash]*chainhash.Hash
}

func (r *remote) connection() *conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.conn
}

// run connects and connects again.
func (r *remote) run() {
	c := r.client
	for ceiling := 2 * MinBackoff; ; ceiling = min(2*ceiling, MaxBackoff) {
		useful, err := r.once()
		r.mu.Lock()
		r.conn, r.trouble = nil, err
		r.mu.Unlock()
		c.bell.Ring()
		if c.ctx.Err() != nil {
			return
		}
		c.down(err)
		pause := jitter(ceiling)
		if lied(err) {
			pause = c.options.LiePause
		} else if useful {
			ceiling = 2 * MinBackoff
		}
		select {
		case <-time.After(pause):
		case <-c.ctx.Done():
			return
		}
	}
}

// once is one connection. It was useful if it could be asked.
func (r *remote) once() (useful bool, err error) {
	c := r.client
	ctx, cancel := context.WithTimeout(c.ctx, c.options.CallTimeout)
	defer cancel()
	raw, err := dial(ctx, r.address)
	if err != nil {
		return false, fmt.Errorf("server %s: %w", r.address.Host, err)
	}
	conn := newConn(r.address, raw, c.changed)
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		conn.read()
	}()
	stop := context.AfterFunc(c.ctx, func() { conn.close(c.ctx.Err()) })
	defer func() {
		stop()
		conn.close(errors.New("left"))
		<-reading
	}()
	if err := r.greet(ctx, conn); err != nil {
		return false, err
	}
	if err := r.catchUp(conn); err != nil {
		return false, err
	}
	if err := r.resubscribe(conn); err != nil {
		return false, err
	}
	r.mu.Lock()
	r.conn, r.trouble = conn, nil
	r.mu.Unlock()
	c.mu.Lock()
	c.synced = true
	for _, s := range c.scripts {
		s.asked++
	}
	c.mu.Unlock()
	c.bell.Ring()
	return true, r.attend(conn)
}

// attend follows the tip until the connection ends.
func (r *remote) attend(conn *conn) error {
	ping := time.NewTicker(PingInterval)
	defer ping.Stop()
	for {
		var err error
		select {
		case <-conn.moved:
			err = r.catchUp(conn)
		case <-ping.C:
			err = r.timed(func(ctx context.Context) error { return conn.call(ctx, new(any), methodPing) })
		case <-conn.gone:
			return conn.why()
		}
		if err != nil {
			return cmp.Or(conn.why(), err)
		}
	}
}

func (r *remote) timed(do func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(r.client.ctx, r.client.options.CallTimeout)
	defer cancel()
	return do(ctx)
}

// greet agrees on a version of the protocol. What the server calls itself is
// dropped.
func (r *remote) greet(ctx context.Context, conn *conn) error {
	var both []json.RawMessage
	if err := conn.call(ctx, &both, methodVersion, software, []string{v14.String(), v16.String()}); err != nil {
		return err
	}
	if len(both) != 2 {
		return conn.lie(BadReply, "its version", "it has two parts")
	}
	if _, v, err := versionRange(both[1]); err != nil || v.less(v14) || v16.less(v) {
		return conn.lie(BadReply, "its version of the protocol", fmt.Sprintf("%v to %v was asked", v14, v16))
	}
	return nil
}

// resubscribe follows all scripts again, so that what changes rings.
func (r *remote) resubscribe(conn *conn) error {
	return r.timed(func(ctx context.Context) error {
		_, _, err := r.statuses(ctx, conn, r.client.watched())
		return err
	})
}

// ask sends questions in a pipeline and hands over the answers in order.
func ask[A any](ctx context.Context, conn *conn, n int, what func(i int) (method string, params []any), take func(i int, a A, err error) error) error {
	for from := 0; from < n; from += pipeline {
		open := make([]question, 0, pipeline)
		for i := from; i < min(n, from+pipeline); i++ {
			method, params := what(i)
			q, err := conn.ask(method, params...)
			if err != nil {
				return err
			}
			open = append(open, q)
		}
		for i, q := range open {
			var a A
			err := q.wait(ctx, &a)
			if err != nil && !errors.As(err, new(*Fault)) {
				return err
			}
			if err := take(from+i, a, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// statuses are what the server says of scripts, and those it says nothing of.
func (r *remote) statuses(ctx context.Context, conn *conn, scripts []chainhash.Hash) (all map[chainhash.Hash]*chainhash.Hash, refused map[chainhash.Hash]error, err error) {
	all, refused = make(map[chainhash.Hash]*chainhash.Hash, len(scripts)), map[chainhash.Hash]error{}
	err = ask(ctx, conn, len(scripts), func(i int) (string, []any) {
		return methodSubscribe, []any{scripts[i].String()}
	}, func(i int, text *string, err error) error {
		if err != nil {
			refused[scripts[i]] = err
			return nil
		}
		if text == nil {
			all[scripts[i]] = nil
			return nil
		}
		raw, err := hex.DecodeString(*text)
		if err != nil || len(raw) != chainhash.HashSize {
			return conn.lie(BadReply, "a status", "it has 64 hexadecimal digits")
		}
		h := chainhash.Hash(raw)
		all[scripts[i]] = &h
		return nil
	})
	return all, refused, err
}

// catchUp follows the server to its tip.
func (r *remote) catchUp(conn *conn) error {
	r.following.Lock()
	defer r.following.Unlock()
	for tries := 0; ; tries++ {
		tip, err := r.follow(conn)
		switch {
		case errors.As(err, new(*LowWork)):
			if r.low != tip { // once for every tip
				r.low = tip
				r.client.down(err)
			}
			return nil
		case !errors.Is(err, errMoved):
			return err
		case tries == MaxMoves:
			return fmt.Errorf("server %s: its headers do not follow one another, %d times: %w", conn.addr, tries, err)
		}
	}
}

// tipOf asks for the server's tip.
func (r *remote) tipOf(ctx context.Context, conn *conn) (tip tipHeader, h wire.BlockHeader, err error) {
	if err := conn.call(ctx, &tip, methodTip); err != nil {
		return tip, h, err
	}
	list, err := parseHeaders(tip.Hex, nil)
	if err != nil || len(list) != 1 || tip.Height < 0 {
		return tip, h, conn.lie(BadReply, "its tip", "it is one header of 160 digits with its height")
	}
	return tip, list[0], nil
}

func parseHeaders(text string, list []string) ([]wire.BlockHeader, error) {
	raw, err := headerBytes(text, list)
	if err != nil {
		return nil, err
	}
	headers := make([]wire.BlockHeader, len(raw)/headerSize)
	in := bytes.NewReader(raw)
	for i := range headers {
		if err := headers[i].Deserialize(in); err != nil {
			return nil, err
		}
	}
	return headers, nil
}

// follow fetches what our chain lacks of the server's, and gives it to the chain
// to judge. Every request of headers has its own time.
func (r *remote) follow(conn *conn) (hash chainhash.Hash, err error) {
	var tip tipHeader
	var last wire.BlockHeader
	if err := r.timed(func(ctx context.Context) (err error) {
		tip, last, err = r.tipOf(ctx, conn)
		return err
	}); err != nil {
		return hash, err
	}
	return header.Hash(&last), r.reach(conn, tip, last)
}

// reach is follow to one tip.
func (r *remote) reach(conn *conn, tip tipHeader, last wire.BlockHeader) error {
	c, hash := r.client, header.Hash(&last)
	c.mu.Lock()
	at, known := c.chain.Height(hash)
	ours, _ := c.chain.Tip()
	_, parent := c.chain.Height(last.PrevBlock)
	c.mu.Unlock()
	if known && at != tip.Height {
		return conn.lie(BadReply, fmt.Sprintf("its tip %v is at height %d", hash, tip.Height), fmt.Sprintf("it is at %d", at))
	}
	if known {
		return nil
	}
	if parent {
		better, err := c.connect(conn, []wire.BlockHeader{last})
		if err != nil || better {
			return err
		}
		return c.low(conn, tip, hash)
	}
	branch, next, err := r.root(conn, min(ours+1, tip.Height))
	if err != nil {
		return err
	}
	for {
		better, err := c.connect(conn, branch)
		if err != nil {
			return err
		}
		if better {
			branch = branch[len(branch)-1:] // the next ones are checked against it
		}
		switch {
		case next > tip.Height && better && c.has(hash):
			return nil
		case next > tip.Height && better:
			return errMoved // its headers do not lead to its tip
		case next > tip.Height, len(branch) > maxBranch:
			return c.low(conn, tip, hash)
		}
		more, err := r.headers(conn, next, HeaderChunk)
		if err != nil {
			return err
		}
		if len(more) == 0 || more[0].PrevBlock != header.Hash(&branch[len(branch)-1]) {
			return errMoved
		}
		next += int32(len(more))
		if better {
			branch = more
		} else {
			branch = append(branch, more...)
		}
	}
}

// low is what a branch comes to that our chain did not follow, unless another
// server has brought it meanwhile.
func (c *Client) low(conn *conn, tip tipHeader, hash chainhash.Hash) error {
	if c.has(hash) {
		return nil
	}
	ours, _ := c.tipNow()
	return &LowWork{conn.addr, tip.Height, ours}
}

func (c *Client) has(hash chainhash.Hash) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, known := c.chain.Height(hash)
	return known
}

// root fetches headers that hang on our chain: those from a height on, or from
// further and further below.
func (r *remote) root(conn *conn, from int32) (branch []wire.BlockHeader, next int32, err error) {
	c := r.client
	for back := int32(8); ; back *= 4 {
		from = max(1, from)
		branch, err = r.headers(conn, from, HeaderChunk)
		if err != nil {
			return nil, 0, err
		}
		if len(branch) == 0 {
			return nil, 0, errMoved
		}
		c.mu.Lock()
		_, known := c.chain.Height(branch[0].PrevBlock)
		base := c.chain.Base()
		c.mu.Unlock()
		if known {
			return branch, from + int32(len(branch)), nil
		}
		if from <= base+1 {
			return nil, 0, conn.lie(BadHeader, fmt.Sprintf("its chain has %v at height %d", header.Hash(&branch[0]), from),
				fmt.Sprintf("it follows nothing that we know: it is another chain, or forks below height %d", base))
		}
		from = max(base+1, from-back)
	}
}

// connect gives a branch to the chain.
func (c *Client) connect(conn *conn, branch []wire.BlockHeader) (better bool, err error) {
	now := step.Time(time.Now().UnixMilli())
	c.mu.Lock()
	_, better, err = c.chain.Connect(branch, now)
	c.mu.Unlock()
	if better {
		c.bell.Ring()
	}
	invalid := (*header.Invalid)(nil)
	if errors.As(err, &invalid) && invalid.Rule != header.RuleFuture {
		return false, conn.lie(BadHeader, fmt.Sprintf("a branch of %d headers", len(branch)), err.Error())
	}
	if errors.Is(err, header.ErrOrphan) {
		return false, errMoved
	}
	return better, err
}

// headers asks for some headers that follow one another.
func (r *remote) headers(conn *conn, from, count int32) (list []wire.BlockHeader, err error) {
	err = r.timed(func(ctx context.Context) error {
		var a struct {
			Hex     string
			Headers []string
		}
		if err := conn.call(ctx, &a, methodHeaders, from, count); err != nil {
			return err
		}
		if list, err = parseHeaders(a.Hex, a.Headers); err != nil {
			return conn.lie(BadReply, "its headers", err.Error())
		}
		return nil
	})
	return list, err
}
