package electrum

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"sync"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"golang.org/x/time/rate"

	"coinop.dev/world/chain"
)

// A session is one client. A reader hands it lines, and everything is sent by
// the one goroutine of run: what is told of a script never overtakes the answer
// to who asked.
type session struct {
	server *Server
	conn   net.Conn
	addr   string
	ctx    context.Context
	cancel context.CancelCauseFunc
	budget *rate.Limiter
	out    *bufio.Writer

	// Of run only.
	version version
	greeted bool                               // server.version was answered
	asked   bool                               // something else was, before
	headers bool                               // follows the tip
	told    map[chainhash.Hash]*chainhash.Hash // scripts followed, and the status last told
	toldTip chainhash.Hash

	mu    sync.Mutex
	dirty map[chainhash.Hash]struct{} // scripts of told to look at again
	all   bool
	moved bool
	wake  chan struct{}
	keys  map[chainhash.Hash]struct{} // of told, for who notes
}

func newSession(s *Server, conn net.Conn, budget *rate.Limiter) *session {
	c := &session{
		server: s, conn: conn, addr: conn.RemoteAddr().String(), budget: budget,
		out: bufio.NewWriterSize(conn, 16<<10), version: v14,
		told: map[chainhash.Hash]*chainhash.Hash{}, keys: map[chainhash.Hash]struct{}{},
		dirty: map[chainhash.Hash]struct{}{}, wake: make(chan struct{}, 1),
	}
	c.ctx, c.cancel = context.WithCancelCause(s.ctx)
	return c
}

// run serves until the client is lost.
func (c *session) run() error {
	stop := context.AfterFunc(c.ctx, func() { c.conn.Close() })
	defer stop()
	lines := make(chan []byte)
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		c.cancel(c.read(lines))
	}()
	defer func() { <-reading }()
	for {
		var err error
		select {
		case line := <-lines:
			err = c.serve(line)
		case <-c.wake:
			err = c.tell()
		case <-c.ctx.Done():
			err = context.Cause(c.ctx)
		}
		if flushed := c.flush(); err == nil { // who is told to go is told why
			err = flushed
		}
		if err != nil {
			c.cancel(err)
			return context.Cause(c.ctx)
		}
	}
}

// read hands on line after line. One that is too long or too slow ends it.
func (c *session) read(lines chan<- []byte) error {
	in := bufio.NewReaderSize(c.conn, 4096)
	slow := c.server.options.LineTimeout
	for idle := slow; ; idle = c.server.options.IdleTimeout { // who has said nothing yet must soon
		line, err := readLine(c.conn, in, c.server.options.MaxLine, idle, slow)
		if err != nil {
			return err
		}
		select {
		case lines <- line:
		case <-c.ctx.Done():
			return context.Cause(c.ctx)
		}
	}
}

var errLong = errors.New("line is too long")

// readLine reads up to a newline. It takes memory as bytes arrive, no sooner.
func readLine(conn net.Conn, in *bufio.Reader, most int, idle, slow time.Duration) ([]byte, error) {
	conn.SetReadDeadline(time.Now().Add(idle))
	if _, err := in.Peek(1); err != nil {
		return nil, hungUp(err)
	}
	conn.SetReadDeadline(time.Now().Add(slow))
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) > most {
			return nil, fmt.Errorf("%w: the limit is %d bytes", errLong, most)
		}
		line = append(line, part...)
		if err == nil {
			return line, nil
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, hungUp(err)
		}
	}
}

func hungUp(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("hung up")
	}
	return err
}

func (c *session) flush() error {
	c.conn.SetWriteDeadline(time.Now().Add(c.server.options.LineTimeout))
	return c.out.Flush()
}

func (c *session) write(line []byte) error {
	c.conn.SetWriteDeadline(time.Now().Add(c.server.options.LineTimeout))
	if _, err := c.out.Write(line); err != nil {
		return err
	}
	return c.out.WriteByte('\n')
}

// note is called after every update: it remembers what may be news, and nothing
// more than the client follows.
func (c *session) note(moved bool, t touched, all bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.moved = c.moved || moved
	c.all = c.all || all
	for s := range t {
		if _, follows := c.keys[s]; follows {
			c.dirty[s] = struct{}{}
		}
	}
	if c.moved || c.all || len(c.dirty) > 0 {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

// tell sends what is new.
func (c *session) tell() error {
	c.mu.Lock()
	dirty, moved := c.dirty, c.moved
	if c.all {
		dirty = maps.Clone(c.keys)
	}
	c.dirty, c.moved, c.all = map[chainhash.Hash]struct{}{}, false, false
	c.mu.Unlock()
	if moved && c.headers {
		tip, hash := c.tip()
		if hash != c.toldTip {
			c.toldTip = hash
			if err := c.notify(methodTip, tip); err != nil {
				return err
			}
		}
	}
	for script := range dirty {
		last, follows := c.told[script]
		if !follows {
			continue
		}
		now, no := c.status(script)
		if no != nil || same(now, last) {
			continue
		}
		c.told[script] = now
		if err := c.notify(methodSubscribe, script.String(), statusText(now)); err != nil {
			return err
		}
	}
	return nil
}

func same(a, b *chainhash.Hash) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }

func (c *session) notify(method string, params ...any) error {
	line, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "method": method, "params": params})
	if err != nil {
		return err
	}
	return c.write(line)
}

// answer is one reply.
type answer struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  *any            `json:"result,omitempty"`
	Error   *fault          `json:"error,omitempty"`
}

// errVersion ends a session that has no version in common with us.
var errVersion = errors.New("no version of the protocol in common")

// serve answers one line.
func (c *session) serve(line []byte) error {
	calls, batch, no := parseRequests(line)
	if no != nil {
		return c.reply(answer{ID: json.RawMessage("null"), Error: no})
	}
	if !batch {
		a, err := c.call(calls[0])
		if a == nil {
			return err
		}
		return errors.Join(c.reply(*a), err)
	}
	var answers []json.RawMessage
	size := 0
	for _, one := range calls {
		a, err := c.call(one)
		if err != nil {
			return err
		}
		if a == nil {
			continue
		}
		raw := encode(*a)
		if size += len(raw) + 1; size > MaxReply {
			raw = encode(answer{ID: a.ID, Error: refuse(codeTooMuch, "the answers are longer than %d bytes; ask for less at once", MaxReply)})
		}
		answers = append(answers, raw)
	}
	if len(answers) == 0 {
		return nil
	}
	raw, err := json.Marshal(answers)
	if err != nil {
		return err
	}
	return c.write(raw)
}

func (c *session) reply(a answer) error { return c.write(encode(a)) }

func encode(a answer) []byte {
	a.Version = "2.0"
	raw, err := json.Marshal(a)
	if err != nil {
		raw, _ = json.Marshal(answer{Version: "2.0", ID: json.RawMessage("null"), Error: refuse(codeInternal, "internal error")})
	}
	if len(raw) > MaxReply {
		return encode(answer{ID: a.ID, Error: refuse(codeTooMuch, "the answer has %d bytes; the limit is %d", len(raw), MaxReply)})
	}
	return raw
}

// call answers one call, or nil to a notification. An error ends the session.
func (c *session) call(r request) (*answer, error) {
	if err := c.spend(1); err != nil {
		return nil, err
	}
	result, no := c.do(r)
	if c.ctx.Err() != nil {
		return nil, context.Cause(c.ctx)
	}
	if r.Method != methodVersion {
		c.asked = true
	}
	var end error
	if no != nil && r.Method == methodVersion && !c.greeted {
		end = errVersion
	}
	if len(r.ID) == 0 && r.Method != "" {
		return nil, end
	}
	a := &answer{ID: r.id(), Error: no}
	if no == nil {
		a.Result = &result
	}
	return a, end
}

func (c *session) do(r request) (any, *fault) {
	if r.Method == "" {
		return nil, refuse(codeRequest, "not a JSON-RPC call")
	}
	m, known := methods[r.Method]
	if !known || c.version.less(m.since) || m.until != (version{}) && !c.version.less(m.until) {
		return nil, refuse(codeMethod, "unknown method %.60q in protocol %v", r.Method, c.version)
	}
	a, no := r.args(m.params)
	if no != nil {
		return nil, no
	}
	if err := c.spend(m.cost); err != nil {
		return nil, refuse(codeBusy, "closing")
	}
	return m.do(c, a)
}

// spend waits until the client may have that much work done.
func (c *session) spend(work int) error {
	if work == 0 {
		return nil
	}
	return c.budget.WaitN(c.ctx, min(work, c.budget.Burst()))
}

// blame says why the source could not be asked.
func blame(err error) *fault {
	switch {
	case errors.Is(err, chain.ErrNoBlock):
		return refuse(codeRefused, "there is no such block")
	case errors.Is(err, errMoved):
		return refuse(codeBusy, "the chain has just changed; ask again")
	}
	return refuse(codeInternal, "the node does not answer; ask again later")
}
