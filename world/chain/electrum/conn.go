package electrum

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"golang.org/x/time/rate"
)

const (
	// maxAnswer bounds a line of a server's in bytes: a transaction as large as a
	// block, in hexadecimal. Memory is taken as bytes arrive.
	maxAnswer = 8<<20 + 4096

	// notesPerSecond is how many notifications a server may send for long.
	notesPerSecond = 50

	// pipeline is how many questions are asked before the first answer is awaited.
	pipeline = 128
)

// An Address names a server.
type Address struct {
	Host string // "host:port"
	TLS  bool
	Pins [][sha256.Size]byte // SHA-256 of certificates, one of which it must have; none means the system's roots
}

// conn is a connection to a server.
type conn struct {
	addr    string
	net     net.Conn
	changed func(script chainhash.Hash)
	moved   chan struct{} // holds one token when the tip has changed
	gone    chan struct{}

	writing sync.Mutex
	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan reply
	err     error
}

// dial connects and speaks no word yet.
func dial(ctx context.Context, a Address) (net.Conn, error) {
	host, _, err := net.SplitHostPort(a.Host)
	if err != nil {
		return nil, err
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", a.Host)
	if err != nil || !a.TLS {
		return c, err
	}
	config := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if len(a.Pins) > 0 {
		config.InsecureSkipVerify = true // the pin is the proof
		config.VerifyConnection = a.pinned
	}
	secure := tls.Client(c, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return secure, nil
}

func (a Address) pinned(s tls.ConnectionState) error {
	if len(s.PeerCertificates) == 0 {
		return errors.New("no certificate")
	}
	sum := sha256.Sum256(s.PeerCertificates[0].Raw)
	for _, pin := range a.Pins {
		if pin == sum {
			return nil
		}
	}
	return fmt.Errorf("its certificate has SHA-256 %x, which is no pin: if its owner has renewed it, correct pin=", sum)
}

func newConn(a Address, c net.Conn, changed func(chainhash.Hash)) *conn {
	return &conn{
		addr: a.Host, net: c, changed: changed, moved: make(chan struct{}, 1), gone: make(chan struct{}),
		waiting: map[uint64]chan reply{},
	}
}

// read takes in lines until the connection ends.
func (c *conn) read() {
	in := bufio.NewReaderSize(c.net, 4096)
	notes := rate.NewLimiter(notesPerSecond, 4*MaxScripts)
	for {
		line, err := readLine(c.net, in, maxAnswer, IdleTimeout, LineTimeout)
		if errors.Is(err, errLong) {
			err = c.lie(BadReply, "a line is longer", fmt.Sprintf("the limit is %d bytes", maxAnswer))
		}
		if err == nil {
			err = c.take(line, notes)
		}
		if err != nil {
			c.close(err)
			return
		}
	}
}

func (c *conn) lie(k Kind, claim, truth string) *Lie {
	return &Lie{Server: c.addr, Kind: k, Claim: claim, Truth: truth}
}

func (c *conn) take(line []byte, notes *rate.Limiter) error {
	r, err := parseReply(line)
	if err != nil {
		return c.lie(BadReply, "a line of "+fmt.Sprint(len(line))+" bytes", err.Error())
	}
	if r.method != "" {
		if !notes.Allow() {
			return fmt.Errorf("server %s sends more than %d notifications in a second", c.addr, notesPerSecond)
		}
		return c.note(r)
	}
	c.mu.Lock()
	w := c.waiting[r.id]
	delete(c.waiting, r.id)
	c.mu.Unlock()
	if w == nil {
		return c.lie(BadReply, fmt.Sprintf("an answer to call %d", r.id), "it was not asked")
	}
	w <- r
	return nil
}

func (c *conn) note(r reply) error {
	switch r.method {
	case methodTip:
		select {
		case c.moved <- struct{}{}:
		default:
		}
	case methodSubscribe:
		var params []json.RawMessage
		var text string
		if json.Unmarshal(r.params, &params) != nil || len(params) == 0 || json.Unmarshal(params[0], &text) != nil {
			return c.lie(BadReply, "a notification of no script", "it has a script hash first")
		}
		if h, err := parseHash(text); err == nil {
			c.changed(h)
		}
	}
	return nil
}

// close ends the connection with a reason, the first of which counts.
func (c *conn) close(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		c.net.Close()
		close(c.gone)
	}
}

func (c *conn) why() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// A question waits for its answer.
type question struct {
	conn   *conn
	method string
	answer chan reply
}

// ask sends one call.
func (c *conn) ask(method string, params ...any) (question, error) {
	q := question{c, method, make(chan reply, 1)}
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return q, c.err
	}
	c.next++
	id := c.next
	c.waiting[id] = q.answer
	c.mu.Unlock()
	if params == nil {
		params = []any{}
	}
	line, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": id, "method": method, "params": params})
	if err != nil {
		return q, err
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	c.net.SetWriteDeadline(time.Now().Add(LineTimeout))
	if _, err := c.net.Write(append(line, '\n')); err != nil {
		c.close(err)
		return q, c.why()
	}
	return q, nil
}

// wait returns the result, or a *Fault. When ctx runs out of time the server has
// stalled, and is left.
func (q question) wait(ctx context.Context, result any) error {
	var r reply
	select {
	case r = <-q.answer:
	case <-q.conn.gone:
		return q.conn.why()
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			q.conn.close(fmt.Errorf("server %s: %s: %w", q.conn.addr, q.method, errStalled))
		}
		return ctx.Err()
	}
	if r.fault {
		return &Fault{Server: q.conn.addr, Method: q.method, Reason: r.reason, Length: r.length}
	}
	if err := json.Unmarshal(r.result, result); err != nil {
		return q.conn.lie(BadReply, "the result of "+q.method, "it is of another kind")
	}
	return nil
}

func (c *conn) call(ctx context.Context, result any, method string, params ...any) error {
	q, err := c.ask(method, params...)
	if err != nil {
		return err
	}
	return q.wait(ctx, result)
}

// A reply is a line of a server's, without its text.
type reply struct {
	id     uint64
	result json.RawMessage
	fault  bool
	reason Reason
	length int // of the text that was dropped

	method string // of a notification
	params json.RawMessage
}

// parseReply reads an answer or a notification. Its errors have no word of the
// line.
func parseReply(line []byte) (r reply, err error) {
	var raw struct {
		ID     json.RawMessage
		Method string
		Params json.RawMessage
		Result json.RawMessage
		Error  json.RawMessage
	}
	if json.Unmarshal(line, &raw) != nil {
		return r, errors.New("it is not a JSON-RPC answer")
	}
	if raw.Method != "" {
		return reply{method: raw.Method, params: raw.Params}, nil
	}
	if json.Unmarshal(raw.ID, &r.id) != nil {
		return r, errors.New("its id is not a number of ours")
	}
	if e := bytes.TrimSpace(raw.Error); len(e) > 0 && string(e) != "null" {
		var f fault
		if json.Unmarshal(e, &f) != nil {
			f = fault{Message: string(e)} // JSON-RPC 1.0 leaves open what an error is
		}
		r.fault, r.reason, r.length = true, reasonOf(f.Code, f.Message), len(f.Message)
		return r, nil
	}
	r.result = raw.Result
	if len(r.result) == 0 {
		r.result = json.RawMessage("null")
	}
	return r, nil
}

// headerBytes reads the headers of an answer: one text in 1.4, a list in 1.6.
func headerBytes(text string, list []string) ([]byte, error) {
	if text == "" {
		text = strings.Join(list, "")
	}
	if len(text) > 2*headerSize*HeaderChunk || len(text)%(2*headerSize) != 0 {
		return nil, fmt.Errorf("headers have %d digits each, and there are %d at most", 2*headerSize, HeaderChunk)
	}
	raw, err := hex.DecodeString(text)
	if err != nil {
		return nil, errors.New("headers are hexadecimal")
	}
	return raw, nil
}
