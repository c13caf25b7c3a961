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
// Each endpoint is served for itself: one that hangs keeps nothing from the others.
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
	// claimMost is how many deliveries are claimed at a time for an endpoint that takes
	// them fast; for another it is as many as are sent at once.
	claimMost = 64
	// Poll is how often the books are asked for what is due, if nothing happens.
	Poll = time.Second
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
	Poll        time.Duration
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

// A lane is what is under way to one endpoint. Each claims for itself, so one that
// does not answer holds up nothing but its own.
type lane struct {
	wake chan struct{} // there may be something to deliver
	stop context.CancelFunc

	mu       sync.Mutex
	endpoint books.Endpoint
	fast     bool
	until    step.Time // nothing is sent before: it has just failed
	failures int       // in a row
}

// New returns hooks over some books; Run works them.
func New(b *books.Books, o Options) *Hooks {
	if o.Concurrency < 1 || o.Concurrency > MaxConcurrency {
		o.Concurrency = Concurrency
	}
	o.Timeout, o.Poll = cmp.Or(o.Timeout, Timeout), cmp.Or(o.Poll, Poll)
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
		last, err := h.round(ctx, &running)
		if (err != nil) != down && ctx.Err() == nil {
			down = err != nil
			h.o.Log.Warn("webhooks: the books", "reached", !down, "err", err)
		}
		wait, cancel := context.WithTimeout(ctx, h.o.Poll)
		if err != nil || h.b.Await(wait, last) != nil {
			<-wait.Done()
		}
		cancel()
	}
}

// round wakes the lanes, and returns the number of the last event that they know of.
func (h *Hooks) round(ctx context.Context, running *sync.WaitGroup) (last uint64, err error) {
	if _, last, err = h.b.Events(ctx, math.MaxInt64, 1, nil); err != nil {
		return 0, err
	}
	endpoints, err := h.b.Endpoints(ctx)
	if err == nil {
		h.open(ctx, endpoints, running)
	}
	return last, err
}

// open makes lanes for new endpoints, ends those of dropped ones, and wakes all.
func (h *Hooks) open(ctx context.Context, endpoints []books.Endpoint, running *sync.WaitGroup) {
	h.mu.Lock()
	defer h.mu.Unlock()
	there := map[string]bool{}
	for _, p := range endpoints {
		there[p.ID] = true
		l := h.lanes[p.ID]
		if l == nil {
			life, stop := context.WithCancel(ctx)
			l = &lane{wake: make(chan struct{}, 1), stop: stop, endpoint: p}
			h.lanes[p.ID] = l
			running.Go(func() { h.work(life, l) })
		}
		l.mu.Lock()
		if l.endpoint.URL != p.URL || l.endpoint.Secret != p.Secret { // repaired, perhaps
			l.until, l.failures = 0, 0
		}
		l.endpoint = p
		l.mu.Unlock()
		select {
		case l.wake <- struct{}{}:
		default:
		}
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

// work makes the deliveries of one lane.
func (h *Hooks) work(ctx context.Context, l *lane) {
	for ctx.Err() == nil {
		p, left, fast := h.ready(l)
		if left == 0 && !p.Off {
			most := h.o.Concurrency
			if fast {
				most = claimMost
			}
			now := h.o.Now()
			// If the books cannot be reached, Run says so.
			if due, err := h.b.Claim(ctx, p.ID, now, now+h.claim(), most); err == nil && len(due) > 0 {
				h.deliverAll(ctx, l, due)
				continue
			}
		}
		if left == 0 {
			left = h.o.Poll
		}
		rest := time.NewTimer(min(left, h.o.Poll))
		select {
		case <-ctx.Done():
		case <-l.wake:
		case <-rest.C:
		}
		rest.Stop()
	}
}

// ready returns a lane's endpoint as it is now, how long it rests yet, and whether it
// is fast.
func (h *Hooks) ready(l *lane) (p books.Endpoint, left time.Duration, fast bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.endpoint, max(time.Duration(l.until-h.o.Now())*time.Millisecond, 0), l.fast
}

// claim is how long a claimed delivery is this gateway's.
func (h *Hooks) claim() step.Time { return step.Time(h.o.Timeout.Milliseconds()) * 3 / 2 }

// deliverAll makes deliveries, Concurrency at once, and leaves what cannot end before its
// claim does, or is for an endpoint that has just failed: that comes again.
func (h *Hooks) deliverAll(ctx context.Context, l *lane, due []books.Due) {
	queue := make(chan books.Due, len(due))
	for _, d := range due {
		queue <- d
	}
	close(queue)
	var all sync.WaitGroup
	for range h.o.Concurrency {
		all.Go(func() {
			for d := range queue {
				p, left, _ := h.ready(l)
				if late := h.o.Now()+step.Time(h.o.Timeout.Milliseconds()) >= d.Next; ctx.Err() != nil || late || left > 0 || p.Off {
					return
				}
				h.deliver(ctx, l, p, d)
			}
		})
	}
	all.Wait()
}

// deliver tries once, and files what came of it.
func (h *Hooks) deliver(ctx context.Context, l *lane, p books.Endpoint, d books.Due) {
	began := time.Now()
	status, err := h.send(ctx, p, d.ID(), d.What)
	if err != nil && ctx.Err() != nil {
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
