package coap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/pion/dtls/v3"

	wire "coinop.dev/core/coap"
)

// A Client asks one server.
type Client struct {
	p    *peer
	conn net.Conn
}

// Dial is for coap://host:port and coaps://host:port; the ports are 5683 and 5684.
func Dial(ctx context.Context, uri string, o Options) (*Client, error) {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "coap" && u.Scheme != "coaps" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("%.100q is no server; write coap://host:5683 or coaps://host:5684", uri)
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"coap": "5683", "coaps": "5684"}[u.Scheme]
	}
	dialer := net.Dialer{Timeout: HandshakeTimeout}
	conn, err := dialer.DialContext(ctx, "udp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, fmt.Errorf("%w: check the address %s", err, uri)
	}
	if u.Scheme == "coaps" {
		if conn, err = secureConn(ctx, conn.(*net.UDPConn), u.Hostname(), o); err != nil {
			return nil, fmt.Errorf("%s: %w: check that both have the same key, or that its certificate is of that host", uri, err)
		}
	}
	c := &Client{conn: conn}
	c.p = newEndpoint(func(context.Context, Request) Response { return Text(wire.NotFound, "") }, o).
		newPeer(context.Background(), uri, "", true, func(b []byte) error {
			_, err := conn.Write(b)
			return err
		})
	go c.read()
	return c, nil
}

func secureConn(ctx context.Context, conn *net.UDPConn, host string, o Options) (net.Conn, error) {
	options := []dtls.ClientOption{dtls.WithConnectionIDGenerator(dtls.OnlySendCIDGenerator()), dtls.WithExtendedMasterSecret(dtls.RequireExtendedMasterSecret)}
	if o.Key != nil {
		options = append(options, dtls.WithPSK(func([]byte) ([]byte, error) { return o.Key, nil }), dtls.WithPSKIdentityHint([]byte(o.Name)), dtls.WithCipherSuites(pskSuites...))
	} else {
		options = append(options, dtls.WithRootCAs(o.Roots), dtls.WithServerName(host), dtls.WithCipherSuites(certificateSuites...))
	}
	secured, err := dtls.ClientWithOptions(connected{conn}, conn.RemoteAddr(), options...)
	if err != nil {
		conn.Close()
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, HandshakeTimeout)
	defer cancel()
	if err := secured.HandshakeContext(ctx); err != nil {
		secured.Close()
		conn.Close()
		return nil, err
	}
	return secured, nil
}

// connected is a socket with one peer, as DTLS wants it.
type connected struct{ *net.UDPConn }

func (c connected) WriteTo(b []byte, _ net.Addr) (int, error) { return c.Write(b) }

// Close forgets what is outstanding.
func (c *Client) Close() error {
	c.p.cancel()
	return c.conn.Close()
}

func (c *Client) read() {
	buf := make([]byte, wire.MaxMessage+1)
	for {
		n, err := c.conn.Read(buf)
		if err != nil && (c.p.ctx.Err() != nil || errors.Is(err, net.ErrClosed) || n == 0 && !isRefused(err)) {
			c.p.cancel()
			return
		}
		if n > 0 {
			c.p.receive(append([]byte(nil), buf[:n]...))
		}
	}
}

// isRefused: nobody listens there now; a server that starts again may.
func isRefused(err error) bool { return strings.Contains(err.Error(), "refused") }

// NewRequest is a request for a path "/a/b?c=1".
func NewRequest(code wire.Code, path string, format uint32, payload []byte) wire.Message {
	m := wire.Message{Code: code, Payload: payload}
	m.SetPath(path)
	if len(payload) > 0 {
		m.AddUint(wire.ContentFormat, format)
	}
	return m
}

// Do asks, in blocks if it must, and returns the answer with its whole body. An
// answer that is a refusal is no error.
func (c *Client) Do(ctx context.Context, m wire.Message) (wire.Message, error) {
	answer, err := c.upload(ctx, m)
	if err != nil {
		return answer, err
	}
	return c.fetch(ctx, m, answer)
}

// upload sends m, and its body in blocks if it is large.
func (c *Client) upload(ctx context.Context, m wire.Message) (answer wire.Message, err error) {
	if len(m.Payload) <= wire.MaxBlock {
		return c.once(ctx, &m)
	}
	if len(m.Payload) > wire.MaxBody {
		return answer, fmt.Errorf("body has %d bytes; the limit is %d", len(m.Payload), wire.MaxBody)
	}
	for b := (wire.Block{SZX: wire.MaxSZX}); ; {
		piece := m
		part, cut, err := b.Cut(m.Payload)
		if err != nil {
			return answer, err
		}
		piece.Options = append([]wire.Option(nil), m.Options...)
		piece.AddUint(wire.Block1, cut.Value())
		piece.Payload = part
		answer, err = c.once(ctx, &piece)
		if echo, ok := piece.Get(wire.Echo); ok {
			m.Set(wire.Echo, echo)
		}
		if err != nil || !cut.More || answer.Code != wire.Continue {
			return answer, err
		}
		if theirs, ok, _ := answer.Block(wire.Block1); ok && theirs.SZX < b.SZX {
			b.Num = (b.Num + 1) << (b.SZX - theirs.SZX)
			b.SZX = theirs.SZX
			continue
		}
		b.Num++
	}
}

var errChanged = errors.New("the answer changed while it was fetched: ask again")

// fetch completes an answer that came as a first block.
func (c *Client) fetch(ctx context.Context, m, answer wire.Message) (wire.Message, error) {
	b, _, err := answer.Block(wire.Block2)
	tag, _ := answer.Get(wire.ETag)
	body := bytes.Clone(answer.Payload)
	for err == nil && b.More {
		next := wire.Message{Code: m.Code}
		for _, o := range m.Options {
			if o.Number != wire.Observe && o.Number != wire.Block1 {
				next.Options = append(next.Options, o)
			}
		}
		next.AddUint(wire.Block2, wire.Block{Num: b.Num + 1, SZX: b.SZX}.Value())
		part, err := c.once(ctx, &next)
		if err != nil {
			return answer, err
		}
		now, _, err := part.Block(wire.Block2)
		its, _ := part.Get(wire.ETag)
		if err != nil || part.Code != answer.Code || !bytes.Equal(its, tag) || now.Start() != len(body) {
			return answer, errChanged
		}
		if body = append(body, part.Payload...); len(body) > wire.MaxBody {
			return answer, fmt.Errorf("the answer has more than %d bytes", wire.MaxBody)
		}
		b = now
	}
	answer.Payload = body
	return answer, err
}

// once is one request and its answer. A server that wants to see where we are is
// shown it.
func (c *Client) once(ctx context.Context, m *wire.Message) (wire.Message, error) {
	for tries := 0; ; tries++ {
		m.Token = newToken()
		answers, stop := c.wait(m.Token, 1)
		answer, err := c.exchange(ctx, *m, answers)
		stop()
		value, ok := answer.Get(wire.Echo)
		if err != nil || answer.Code != wire.Unauthorized || !ok || tries > 0 {
			return answer, err
		}
		m.Set(wire.Echo, value)
	}
}

func (c *Client) wait(token []byte, room int) (chan wire.Message, func()) {
	answers := make(chan wire.Message, room)
	c.p.mu.Lock()
	c.p.waiting[string(token)] = answers
	c.p.mu.Unlock()
	return answers, func() {
		c.p.mu.Lock()
		delete(c.p.waiting, string(token))
		c.p.mu.Unlock()
	}
}

func (c *Client) exchange(ctx context.Context, m wire.Message, answers chan wire.Message) (wire.Message, error) {
	if err := c.p.confirm(ctx, m); err != nil {
		select {
		case answer := <-answers: // the acknowledgement was lost, the answer was not
			return answer, nil
		default:
			return wire.Message{}, err
		}
	}
	late := time.NewTimer(PatienceTotal)
	defer late.Stop()
	select {
	case answer := <-answers:
		return answer, nil
	case <-late.C:
		return wire.Message{}, errSilence
	case <-ctx.Done():
		return wire.Message{}, context.Cause(ctx)
	case <-c.p.ctx.Done():
		return wire.Message{}, net.ErrClosed
	}
}

// Observe calls each with the answer to m and with every notification that is newer
// than those before, until that returns an error, or the server ends it: with an
// answer that is no notification, which is the last.
func (c *Client) Observe(ctx context.Context, m wire.Message, each func(wire.Message) error) error {
	m.Options = append([]wire.Option(nil), m.Options...)
	m.AddUint(wire.Observe, 0)
	m.Token = newToken()
	answers, stop := c.wait(m.Token, 16)
	defer stop()
	answer, err := c.exchange(ctx, m, answers)
	if value, ok := answer.Get(wire.Echo); ok && err == nil && answer.Code == wire.Unauthorized {
		m.Set(wire.Echo, value)
		answer, err = c.exchange(ctx, m, answers)
	}
	last, at := uint32(0), time.Time{}
	for first := true; err == nil; first = false {
		n, notifies := answer.Uint(wire.Observe)
		now := time.Now()
		if first || !notifies || wire.Newer(last, n, now.Sub(at).Milliseconds()) {
			last, at = n, now
			if answer, err = c.fetch(ctx, m, answer); err == nil {
				err = each(answer)
			}
			if err != nil || !notifies {
				break
			}
		}
		select {
		case answer = <-answers:
		case <-ctx.Done():
			err = context.Cause(ctx)
		case <-c.p.ctx.Done():
			return net.ErrClosed
		}
	}
	if err != nil {
		c.leave(m)
	}
	return err
}

// leave tells the server that nobody observes any more; a server that does not hear
// it finds out with its next notification.
func (c *Client) leave(m wire.Message) {
	m.Set(wire.Observe, []byte{1})
	m.Type = wire.NonConfirmable
	c.p.mu.Lock()
	m.ID = c.p.id()
	c.p.mu.Unlock()
	c.p.send(m.Append(nil))
}

// ErrUnpaid is what a Pay returns to go without.
var ErrUnpaid = errors.New("not bought")

// Buy gets what path names. If it must be paid, pay is shown the offer and returns
// the proof.
func (c *Client) Buy(ctx context.Context, path string, pay func(context.Context, wire.Offer) (wire.Proof, error)) (wire.Message, error) {
	m := NewRequest(wire.GET, path, 0, nil)
	answer, err := c.Do(ctx, m)
	format, _ := answer.Uint(wire.ContentFormat)
	if err != nil || answer.Code != wire.Forbidden || format != wire.FormatOffer {
		return answer, err
	}
	offer, err := wire.Parse[wire.Offer](answer.Payload)
	if err != nil {
		return answer, err
	}
	proof, err := pay(ctx, offer)
	if err != nil {
		return answer, err
	}
	return c.Do(ctx, Paid(path, proof))
}

// Paid is the request for a path with its proof: in an option, or posted to /pay if
// it is too large for one.
func Paid(path string, proof wire.Proof) wire.Message {
	raw := wire.Encode(proof)
	if len(raw) > wire.MaxProof {
		return NewRequest(wire.POST, "/pay", wire.FormatProof, raw)
	}
	m := NewRequest(wire.GET, path, 0, nil)
	m.Add(wire.OptionProof, raw)
	return m
}
