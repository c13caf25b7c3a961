// Package hooks tells others what happens at a gateway, by HTTP: it posts events of
// the books to the endpoints that want them, signed, until they are taken.
//
// A delivery is a POST of JSON:
//
//	X-Delivery-Id: ENDPOINT-SEQ             the same however often it is tried
//	X-Timestamp: 1763740000123              when it was sent, Unix milliseconds
//	X-Signature-256: sha256=HEX             HMAC-SHA256 of the raw body under the secret
//
//	{"delivery":"ENDPOINT-SEQ","sent_ms":…,"seq":…,"gateway":…,"n":…,"at_ms":…,"type":"order.paid","subject":…,"data":{…}}
//
// The delivery's name and time are in the body too, so they are signed: a receiver
// that refuses old ones, and ones that it has seen, cannot be replayed to. Any answer
// of 200 to 299 means that it was taken. Another one is tried again after half of the
// time that the event is old, with jitter, at most an hour later, for GiveUp; then it
// has failed, and somebody may have it delivered again.
//
// Deliveries are claimed from the books, so of two gateways that share them one makes
// each. One that stops in the middle leaves it to the other, and the receiver may then
// see it twice, under the same name.
package hooks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"sync"
	"time"

	"coinop.dev/core/offer"
	"coinop.dev/core/step"
	"coinop.dev/world/books"
)

const (
	// Concurrency is how many deliveries are under way to one endpoint, unless the
	// options say otherwise, and MaxConcurrency how many there may be.
	Concurrency    = 2
	MaxConcurrency = 4
	// Timeout is how long a delivery may take, to the last byte of the answer.
	Timeout = 10 * time.Second
	// GiveUp is how old an event may be that is tried again.
	GiveUp = 3 * step.Day

	// maxPause is the longest time between two tries.
	maxPause = step.Hour
	// claimFor is how long a claimed delivery is this gateway's. What cannot be done by
	// then is left to whoever claims it next.
	claimFor = 15 * step.Second
	// maxQueue is how many claimed deliveries wait for an endpoint.
	maxQueue = 64
	// claimMost is how many are claimed at a time.
	claimMost = 100
	// pollEvery is how often the books are asked for what is due.
	pollEvery = time.Second
	// roomWait is how long claims wait for room, for endpoints that take their
	// deliveries fast and have many, and roomPoll how often they look.
	roomWait = time.Second
	roomPoll = 5 * time.Millisecond
	// slow is what an endpoint takes for an answer that is not fast.
	slow = time.Second
	// MinSecret and MaxSecret bound an endpoint's secret, in bytes; maxURL its URL.
	MinSecret = 16
	MaxSecret = 256
	maxURL    = 1024
	maxTypes  = books.MaxTypes
)

// Options say how deliveries are made. The zero value is a careful one.
type Options struct {
	// Private allows receivers on this computer and in private networks. Link-local
	// addresses, where clouds have their metadata, are never allowed.
	Private     bool
	Concurrency int // deliveries to one endpoint at a time, 1 to MaxConcurrency
	Timeout     time.Duration
	Log         *slog.Logger     // nil: silence
	Now         func() step.Time // nil: the clock
}

// Hooks deliver the events of some books.
type Hooks struct {
	b      *books.Books
	o      Options
	client *http.Client

	mu    sync.Mutex
	lanes map[string]*lane // by endpoint
}

// A lane is what is under way to one endpoint.
type lane struct {
	queue chan books.Due
	stop  context.CancelFunc

	mu       sync.Mutex
	endpoint books.Endpoint
	fast     bool      // as far as is known
	until    step.Time // nothing is sent before: it has just failed
	failures int       // in a row
}

// New returns hooks over some books; Run works them.
func New(b *books.Books, o Options) *Hooks {
	if o.Concurrency < 1 || o.Concurrency > MaxConcurrency {
		o.Concurrency = Concurrency
	}
	o.Timeout = cmp.Or(o.Timeout, Timeout)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Now == nil {
		o.Now = func() step.Time { return step.Time(time.Now().UnixMilli()) }
	}
	return &Hooks{b: b, o: o, client: newClient(o), lanes: map[string]*lane{}}
}

// Run makes deliveries until ctx ends, and waits for those under way. While the
// books cannot be reached it goes on trying.
func Run(ctx context.Context, b *books.Books, o Options) { New(b, o).Run(ctx) }

// Run makes deliveries until ctx ends, and waits for those under way.
func (h *Hooks) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	defer h.close()
	down := false
	for ctx.Err() == nil {
		more, err := h.round(ctx, &running)
		if (err != nil) != down && ctx.Err() == nil {
			down = err != nil
			h.o.Log.Warn("webhooks: the books", "reached", !down, "err", err)
		}
		if more && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
		case <-h.news(ctx):
		}
	}
}

// news is closed when there may be something to deliver.
func (h *Hooks) news(ctx context.Context) <-chan struct{} {
	c := make(chan struct{})
	go func() {
		defer close(c)
		ctx, cancel := context.WithTimeout(ctx, pollEvery)
		defer cancel()
		_, last, err := h.b.Events(ctx, math.MaxInt64, 1, nil)
		if err == nil {
			err = h.b.Await(ctx, last)
		}
		if err != nil {
			<-ctx.Done()
		}
	}()
	return c
}

// round claims what is due and hands it to the lanes; more says that there may be
// more of it.
func (h *Hooks) round(ctx context.Context, running *sync.WaitGroup) (more bool, err error) {
	endpoints, err := h.b.Endpoints(ctx)
	if err != nil {
		return false, err
	}
	h.open(ctx, endpoints, running)
	if len(endpoints) == 0 {
		return false, nil
	}
	now := h.o.Now()
	due, err := h.b.Claim(ctx, now, now+claimFor, claimMost)
	h.hand(ctx, slices.Clone(due))
	return len(due) == claimMost, err
}

// open makes lanes for new endpoints and ends those of dropped ones.
func (h *Hooks) open(ctx context.Context, endpoints []books.Endpoint, running *sync.WaitGroup) {
	h.mu.Lock()
	defer h.mu.Unlock()
	there := map[string]bool{}
	for _, p := range endpoints {
		there[p.ID] = true
		l := h.lanes[p.ID]
		if l == nil {
			life, stop := context.WithCancel(ctx)
			l = &lane{queue: make(chan books.Due, maxQueue), stop: stop, fast: true}
			h.lanes[p.ID] = l
			for range h.o.Concurrency {
				running.Go(func() { h.work(life, l) })
			}
		}
		l.mu.Lock()
		if l.endpoint.URL != p.URL || l.endpoint.Secret != p.Secret { // repaired, perhaps
			l.until, l.failures = 0, 0
		}
		l.endpoint = p
		l.mu.Unlock()
	}
	for id, l := range h.lanes {
		if !there[id] {
			l.stop()
			delete(h.lanes, id)
		}
	}
}

func (h *Hooks) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, l := range h.lanes {
		l.stop()
	}
	clear(h.lanes)
}

// hand gives deliveries to their endpoints' lanes. For lanes that are worth it, it
// waits a moment until there is room, for all of them together. What is left, or is
// for an endpoint that has just failed, comes again when its claim ends.
func (h *Hooks) hand(ctx context.Context, due []books.Due) {
	for until := time.Now().Add(roomWait); ; {
		due = slices.DeleteFunc(due, h.put)
		if len(due) == 0 {
			return
		}
		if ctx.Err() != nil || time.Now().After(until) {
			break
		}
		time.Sleep(roomPoll)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range due {
		if l := h.lanes[d.Endpoint]; l != nil {
			l.mu.Lock()
			l.fast = false
			l.mu.Unlock()
		}
	}
}

// put puts one delivery into its lane, and reports whether that is done or in vain.
func (h *Hooks) put(d books.Due) bool {
	h.mu.Lock()
	l := h.lanes[d.Endpoint]
	h.mu.Unlock()
	if l == nil {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.endpoint.Off || h.late(l.until, d) {
		return true
	}
	select {
	case l.queue <- d:
		return true
	default:
		return !l.fast
	}
}

// late reports whether a delivery that begins at a time may not end before its claim
// does: then it is the next one's to make.
func (h *Hooks) late(at step.Time, d books.Due) bool {
	return max(at, h.o.Now())+step.Time(h.o.Timeout.Milliseconds()) >= d.Next
}

// work makes the deliveries of one lane, one after the other.
func (h *Hooks) work(ctx context.Context, l *lane) {
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-l.queue:
			if p, ok := h.rested(ctx, l, d); ok {
				h.deliver(ctx, l, p, d)
			}
		}
	}
}

// rested waits until a lane may be used again, and returns the endpoint as it is
// then; false if that is too late for a delivery.
func (h *Hooks) rested(ctx context.Context, l *lane, d books.Due) (books.Endpoint, bool) {
	for {
		l.mu.Lock()
		p, until := l.endpoint, l.until
		l.mu.Unlock()
		left := until - h.o.Now()
		switch {
		case ctx.Err() != nil || p.Off || h.late(until, d):
			return p, false
		case left <= 0:
			return p, true
		}
		select {
		case <-ctx.Done():
		case <-time.After(min(time.Duration(left)*time.Millisecond, pollEvery)): // it may be repaired meanwhile
		}
	}
}

// deliver tries once, and files what came of it.
func (h *Hooks) deliver(ctx context.Context, l *lane, p books.Endpoint, d books.Due) {
	began := time.Now()
	status, err := h.send(ctx, p, d.ID(), d.What)
	if ctx.Err() != nil {
		return // the claim ends, and it is made again
	}
	now := h.o.Now()
	d.Status, d.Error = status, ""
	next := step.Time(0)
	if err != nil {
		d.Error = err.Error()
		next = again(d.What.At, now)
	}
	l.told(err == nil, time.Since(began), now)
	// It was sent: that must be written although this gateway stops.
	file, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.o.Timeout)
	defer cancel()
	if err := h.b.Delivered(file, d.Delivery, now, err == nil, next); err != nil {
		h.o.Log.Warn("webhooks: a delivery is not filed, and will be made again", "delivery", d.ID(), "err", err)
	}
	if err != nil {
		h.o.Log.Debug("webhooks: not delivered", "delivery", d.ID(), "err", err)
	}
}

// told takes note of how an endpoint does. After a failure it rests, the longer the
// more there were, so that a thousand events are not sent to nobody.
func (l *lane) told(ok bool, took time.Duration, now step.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fast = ok && took < slow
	if ok {
		l.failures, l.until = 0, 0
		return
	}
	l.failures++
	l.until = now + jitter(min(step.Second<<min(l.failures-1, 6), step.Minute))
}

// again is when an event is tried again that could not be delivered now; 0 for not
// any more.
func again(at, now step.Time) step.Time {
	age := max(now-at, 0)
	if age > GiveUp {
		return 0
	}
	return now + jitter(min(max(age/2, step.Second), maxPause))
}

// jitter is d give or take a quarter.
func jitter(d step.Time) step.Time { return d*3/4 + step.Time(rand.Int64N(int64(d/2)+1)) }

// Ping sends an endpoint an event of type ping, now, whether it is off or not.
func (h *Hooks) Ping(ctx context.Context, p books.Endpoint) (status int, err error) {
	now := h.o.Now()
	return h.send(ctx, p, fmt.Sprintf("%s-ping-%d", p.ID, now), books.Event{At: now, Type: "ping", Subject: p.ID})
}

// Check reports what is wrong with an endpoint that somebody wants.
func (h *Hooks) Check(p books.Endpoint) error {
	u, err := url.Parse(p.URL)
	switch {
	case !offer.ValidName(p.ID):
		return fmt.Errorf("endpoint %.80q: a name is 1 to 64 of a-z 0-9 . _ -", p.ID)
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("the URL of an endpoint is https://host/path, or http:// where nobody listens in")
	case u.User != nil:
		return errors.New("the URL of an endpoint must have no password in it")
	case len(p.URL) > maxURL:
		return fmt.Errorf("the URL has %d bytes; the limit is %d", len(p.URL), maxURL)
	case len(p.Secret) < MinSecret || len(p.Secret) > MaxSecret:
		return fmt.Errorf("the secret has %d bytes; it must have %d to %d", len(p.Secret), MinSecret, MaxSecret)
	case len(p.Types) > maxTypes:
		return fmt.Errorf("%d types of events; the limit is %d", len(p.Types), maxTypes)
	}
	for _, t := range p.Types {
		if !validType(t) {
			return fmt.Errorf("%.40q is no type of event such as order.paid, or order. for all of orders", t)
		}
	}
	if addr, err := netip.ParseAddr(u.Hostname()); err == nil {
		return h.allowed(addr)
	}
	return nil
}

func validType(t string) bool {
	if t == "" || len(t) > 64 {
		return false
	}
	for _, c := range t {
		if (c < 'a' || c > 'z') && c != '.' && c != '_' {
			return false
		}
	}
	return true
}
