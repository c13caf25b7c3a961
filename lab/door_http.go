package lab

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"coinop.dev/core/money"
	core "coinop.dev/core/paywall"
	"coinop.dev/gateway/paywall"
)

const (
	sessionUnits = paywall.MaxBundle
	upstreamSays = 256 // bytes of an answer
	floodConns   = 64  // connections of who does not pay
	maxAnswer    = 64 << 10
	visitorNets  = 250  // addresses that visitors come from, by twos
	maxOwnAddrs  = 1000 // connections with an address of their own
)

// A rush is clients of the paywall, each with a connection and a prepaid session,
// and what the paywall stands before. Both speak as little HTTP as will do: what
// they take of the processor the gateway has not.
type rush struct {
	upstream net.Listener
	gate     string // host:port
	plain    string
	tickets  []string // the credential of each client
	took     *histogram
	done     atomic.Int64
	wire     atomic.Uint64
}

func newRush() (*rush, *doorNews, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	r := &rush{upstream: l, took: new(histogram)}
	go r.serve()
	return r, &doorNews{Upstream: "http://" + l.Addr().String()}, nil
}

func (r *rush) close()              { r.upstream.Close() }
func (r *rush) paid() *atomic.Int64 { return &r.done }

func (r *rush) count() (c doorCounts, err error) {
	c.counts = readKernel()
	c.Wire.Sent = r.wire.Load()
	return c, nil
}

// serve answers every request with the same page.
func (r *rush) serve() {
	page := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", upstreamSays, bytes.Repeat([]byte("."), upstreamSays))
	for {
		conn, err := r.upstream.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			in := bufio.NewReader(conn)
			for {
				for n := 3; n > 2; { // until an empty line
					line, err := in.ReadSlice('\n')
					if err != nil {
						return
					}
					n = len(line)
				}
				if _, err := conn.Write(page); err != nil {
					return
				}
			}
		}()
	}
}

func (r *rush) do(ctx context.Context, what string, t *doorTask) (*doorNews, error) {
	switch what {
	case "door buy":
		return &doorNews{}, r.buy(ctx, t)
	case "door visit":
		p, err := r.visit(ctx, t)
		return &doorNews{Went: p}, err
	}
	return nil, fmt.Errorf("no rush does %q", what)
}

// buy buys a session for each client, from an address of its own: one address is
// given few offers in a minute.
func (r *rush) buy(ctx context.Context, t *doorTask) error {
	gate, err := url.Parse(t.At.Addrs[doorHTTP])
	if err != nil {
		return err
	}
	lab, err := url.Parse(t.At.Addrs["lab"])
	if err != nil {
		return err
	}
	r.gate, r.plain = gate.Host, lab.Host
	for i := range t.Devices {
		ticket, err := buySession(ctx, i, gate.String()+"/"+paidItem+"/", t.At.Addrs["lab"])
		if err != nil {
			return fmt.Errorf("session %d: %w", i, err)
		}
		r.tickets = append(r.tickets, ticket)
	}
	return nil
}

// buySession asks for a page, pays for the session that it is offered, and returns
// the credential.
func buySession(ctx context.Context, i int, page, cashier string) (string, error) {
	base := &http.Transport{DialContext: from(i)}
	defer base.CloseIdleConnections()
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
	if err != nil {
		return "", err
	}
	q.Header.Set(paywall.HeaderUnits, strconv.Itoa(sessionUnits))
	resp, err := base.RoundTrip(q)
	if err != nil {
		return "", err
	}
	resp.Body.Close()
	for _, offered := range core.ReadOffers(resp.Header.Values("WWW-Authenticate")) {
		c, ok := offered.Payment()
		if !ok || c.Method != railFake || c.Intent != core.Session {
			continue
		}
		ask, err := c.ReadRequest()
		if err != nil || ask.Details == nil {
			return "", fmt.Errorf("%w: the challenge names nobody to pay: %w", errAnswer, err)
		}
		o := money.Order{To: payeeOf(ask.Details.Pay)}
		if err := o.ID.UnmarshalText([]byte(ask.ExternalID)); err != nil {
			return "", err
		}
		if o.Amount, err = money.ParseAmount(cmp.Or(ask.DepositAmount, ask.Amount) + " " + ask.Currency); err != nil {
			return "", err
		}
		receipt, err := payPlay(ctx, cashier, o)
		return core.Credential{Challenge: c, Payload: core.Payload{Receipt: &receipt}}.Header(), err
	}
	return "", fmt.Errorf("no session is offered: %s", resp.Status)
}

// from dials from the i-th address of this computer's own network.
func from(i int) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		i = i % maxOwnAddrs
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(i/visitorNets), byte(2+i%visitorNets))}}
		return d.DialContext(ctx, network, addr)
	}
}

// The phases of a rush.
const (
	phasePlain  = "plain"  // through a proxy that charges nothing
	phasePaid   = "paid"   // each from its session
	phaseFlood  = "flood"  // nobody pays
	phaseBeside = "beside" // some pay, and as many do not
)

func (r *rush) visit(ctx context.Context, t *doorTask) (*doorPhase, error) {
	r.took = new(histogram)
	r.done.Store(0)
	p := &doorPhase{Codes: map[string]uint64{}}
	until := time.Now().Add(t.For)
	var mu sync.Mutex
	var fault error
	var visiting sync.WaitGroup
	visit := func(i int, host, credential string, counts bool) {
		visiting.Go(func() {
			codes, err := r.hammer(ctx, i, host, credential, until, counts)
			mu.Lock()
			defer mu.Unlock()
			fault = errors.Join(fault, err)
			for code, n := range codes {
				name := strconv.Itoa(code)
				if !counts {
					name = "unpaid " + name
				}
				p.Codes[name] += n
			}
		})
	}
	begin := time.Now()
	for i, credential := range r.tickets {
		switch t.Phase {
		case phasePlain:
			visit(i, r.plain, "", true)
		case phasePaid, phaseBeside:
			visit(i, r.gate, credential, true)
		}
	}
	if t.Phase == phaseFlood || t.Phase == phaseBeside {
		for i := range floodConns {
			visit(visitorNets+i, r.gate, "", t.Phase == phaseFlood)
		}
	}
	visiting.Wait()
	p.Took, p.Done = time.Since(begin), uint64(r.done.Load())
	p.Refused = p.Done - min(p.Done, p.Codes["200"])
	if t.Phase == phaseFlood {
		p.Refused = 0 // that is what it is for
	}
	p.quantiles(r.took)
	return p, fault
}

// hammer asks again and again over one connection.
func (r *rush) hammer(ctx context.Context, i int, host, credential string, until time.Time, counts bool) (codes map[int]uint64, err error) {
	conn, err := from(i)(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.SetDeadline(until.Add(settleTimeout))
	ask := "GET /" + paidItem + "/ HTTP/1.1\r\nHost: " + host + "\r\n"
	if credential != "" {
		ask += "Authorization: " + credential + "\r\n"
	}
	request, in := []byte(ask+"\r\n"), bufio.NewReader(conn)
	codes = map[int]uint64{}
	for ctx.Err() == nil {
		at := time.Now()
		if at.After(until) {
			return codes, nil
		}
		if _, err := conn.Write(request); err != nil {
			return codes, err
		}
		code, n, err := readAnswer(in)
		if err != nil {
			return codes, err
		}
		codes[code]++
		if counts {
			r.took.add(time.Since(at))
			r.done.Add(1)
			r.wire.Add(uint64(len(request) + n))
		}
	}
	return codes, ctx.Err()
}

var (
	errAnswer     = errors.New("what a server answers is not HTTP")
	contentLength = []byte("Content-Length: ")
)

// readAnswer reads an HTTP answer of known length, and its bytes.
func readAnswer(in *bufio.Reader) (code, bytesRead int, err error) {
	length := -1
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return 0, 0, err
		}
		bytesRead += len(line)
		switch {
		case first && len(line) > 12:
			code, err = strconv.Atoi(string(line[9:12]))
		case first:
			err = errAnswer
		case len(line) <= 2 && (length < 0 || length > maxAnswer):
			err = errAnswer
		case len(line) <= 2:
			n, err := in.Discard(length)
			return code, bytesRead + n, err
		case len(line) > len(contentLength) && bytes.EqualFold(line[:len(contentLength)], contentLength):
			length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(contentLength):])))
		}
		if err != nil {
			return 0, 0, fmt.Errorf("%w: %.80q: %w", errAnswer, line, err)
		}
	}
}

// rush runs the whole visit of the paywall's clients.
func (b *doorBench) rush(ctx context.Context, r *DoorResult, progress func(uint64)) error {
	at, err := b.count(ctx, true)
	if err != nil {
		return err
	}
	r.StartRSSMiB = mib(at.gate.RSS)
	if _, err := b.ask(ctx, b.load, "door buy", b.task()); err != nil {
		return err
	}
	if at, err = b.count(ctx, true); err != nil {
		return err
	}
	r.IdleRSSMiB = mib(at.gate.RSS)
	quiet, h := func(uint64) {}, &DoorHTTP{}
	r.HTTP = h
	for _, warm := range []string{phasePlain, phasePaid} {
		if _, _, _, err := b.phase(ctx, warm, min(b.For/2, doorWarmUp), quiet); err != nil {
			return err
		}
	}
	if err := b.profile(ctx); err != nil {
		return err
	}
	p, before, after, err := b.phase(ctx, phasePaid, b.For, progress)
	if err != nil {
		return err
	}
	r.measured(&p, &before, &after, false)
	short := b.For / 2
	var plain DoorResult
	plain.Devices = b.Devices
	if p, before, after, err = b.phase(ctx, phasePlain, short, quiet); err != nil {
		return err
	}
	plain.measured(&p, &before, &after, false)
	h.PlainPps, h.PlainMs = plain.Pps, plain.GatewayCPUMs
	h.BeyondMs, h.Ratio = difference(r.GatewayCPUMs, plain.GatewayCPUMs), quotient(r.GatewayCPUMs, plain.GatewayCPUMs)
	if err := b.flood(ctx, h, short); err != nil {
		return err
	}
	if p, _, _, err = b.phase(ctx, phaseBeside, short, quiet); err != nil {
		return err
	}
	h.BesidePps, h.BesideP99Ms = figure(float64(p.Done)/p.Took.Seconds()), figure(p.P99.Seconds()*1e3)
	if at, err = b.count(ctx, true); err != nil {
		return err
	}
	r.rested(&at)
	return nil
}

// flood asks without paying, twice, and says what the second time has made grow:
// the first fills what has a limit.
func (b *doorBench) flood(ctx context.Context, h *DoorHTTP, d time.Duration) error {
	var rested [2]doorAt
	for i := range rested {
		p, before, after, err := b.phase(ctx, phaseFlood, d, func(uint64) {})
		if err != nil {
			return err
		}
		h.FloodPs, h.FloodCodes = figure(float64(p.Done)/p.Took.Seconds()), p.Codes
		h.FloodCPUMs = scaled(difference(after.gate.cpu(), before.gate.cpu()), 1e-3/float64(max(p.Done, 1)))
		h.FloodStoreBytes = difference(after.gate.stored(true), before.gate.stored(true))
		h.FloodFileBytes = difference(whole(after.gate.Files), whole(before.gate.Files))
		if rested[i], err = b.count(ctx, true); err != nil {
			return err
		}
	}
	h.FloodRSSKiB = scaled(difference(mib(rested[1].gate.RSS), mib(rested[0].gate.RSS)), 1024)
	return nil
}
