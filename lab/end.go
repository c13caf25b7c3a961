package lab

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"coinop.dev"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/keys"
	"coinop.dev/core/spend"
	"coinop.dev/engine"
	"coinop.dev/purse"
	"coinop.dev/rail"
	"coinop.dev/till"
	"coinop.dev/world/chain"
	"coinop.dev/world/link"
	"coinop.dev/world/link/tcp"
	"coinop.dev/world/store"
)

// End is one end's process: it does what it is asked on in, and stops when in
// ends.
func End(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	e := &end{out: json.NewEncoder(out)}
	defer e.close()
	questions := make(chan question)
	broken := make(chan error, 1)
	go func() {
		defer cancel() // whoever asked is gone, in the middle of an answer or not
		for s := lineScanner(in); s.Scan(); {
			var q question
			if err := json.Unmarshal(s.Bytes(), &q); err != nil {
				broken <- fmt.Errorf("question %.200q: %w", s.Bytes(), err)
				return
			}
			select {
			case questions <- q:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case q := <-questions:
			a, err := e.do(ctx, q)
			if err != nil {
				a.Error = err.Error()
			}
			if err := e.out.Encode(a); err != nil {
				return err
			}
		case <-ctx.Done():
			select {
			case err := <-broken:
				return err
			default:
				return nil
			}
		}
	}
}

// end is a machine with a purse and, if it earns, a till: the same parts that
// every other program of this module is made of.
type end struct {
	out      *json.Encoder
	dir      string
	db       store.DB
	chain    chain.Source
	machine  *engine.Machine
	purse    *purse.Purse
	till     *till.Till
	rails    []*rail.Rail // the last one is measured
	metered  coinop.Amount
	to       string
	echo     *link.Session
	profiler profiler
}

func (e *end) do(ctx context.Context, q question) (a answer, err error) {
	switch q.Do {
	case "start":
		return e.start(ctx, q)
	case "earn":
		return e.earn(ctx, q)
	case "spend":
		return a, e.spend(ctx, q)
	case "pay":
		return e.pay(ctx, q)
	case "count":
		a.Counts, err = e.count(ctx)
	case "limits":
		a.Limits, err = e.limits()
	case "shut":
		return a, e.shut(ctx)
	case "book":
		return e.book(ctx)
	default:
		err = fmt.Errorf("nothing is called %q", q.Do)
	}
	return a, err
}

func (e *end) start(ctx context.Context, q question) (a answer, err error) {
	e.dir = q.Dir
	e.profiler.start(q.Profile)
	key, err := keys.NewSecret(rand.Reader)
	if err != nil {
		return a, err
	}
	if e.db, err = store.Default.Open(q.Store); err != nil {
		return a, err
	}
	if e.chain, err = chain.Default.Open(ctx, q.Chain); err != nil {
		return a, err
	}
	if err := e.synced(ctx); err != nil {
		return a, err
	}
	e.machine = engine.New(ctx, engine.Options{Key: key, DB: e.db, Chain: e.chain})
	// Whatever the rails, this is where onewayrail and its kin keep their money.
	a.Script = tx.P2WPKH(tx.WalletKey(key).Public())
	e.purse, err = purse.Open(ctx, e.machine, spend.Limits{})
	return a, err
}

// synced waits for the chain.
func (e *end) synced(ctx context.Context) error {
	for {
		changed := e.chain.Changed()
		_, _, err := e.chain.Tip(ctx)
		if !errors.Is(err, chain.ErrSyncing) {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (e *end) earn(ctx context.Context, q question) (a answer, err error) {
	addr, err := e.machine.Listen("127.0.0.1:0")
	if err != nil {
		return a, err
	}
	if e.till, err = till.Open(ctx, e.machine, nil, nil, nil); err != nil {
		return a, err
	}
	for _, uri := range q.Rails {
		separator := "?"
		if strings.Contains(uri, separator) {
			separator = "&"
		}
		if _, err := e.open(ctx, uri+separator+"host="+addr.String()); err != nil {
			return a, err
		}
	}
	a.Addr = e.machine.Key.Public().String() + "@" + addr.String()
	a.Echo, err = e.listenEcho(ctx)
	return a, err
}

func (e *end) spend(ctx context.Context, q question) error {
	for _, uri := range q.Rails {
		// The payer's view of the chain may lag behind the money it was given.
		r, err := e.openFunded(ctx, uri)
		if err != nil {
			return err
		}
		if err := e.purse.Hold(ctx, r); err != nil {
			return err
		}
	}
	e.to = e.rails[len(e.rails)-1].Scheme() + "://" + q.Peer
	key, _, err := engine.Address(q.Peer)
	if err != nil {
		return err
	}
	e.echo, err = tcp.Dial(ctx, q.Echo, e.machine.Key, key)
	return err
}

func (e *end) openFunded(ctx context.Context, uri string) (*rail.Rail, error) {
	for {
		changed := e.chain.Changed()
		r, err := e.open(ctx, uri)
		if !errors.Is(err, tx.ErrFunds) {
			return r, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, err
		}
	}
}

func (e *end) open(ctx context.Context, uri string) (*rail.Rail, error) {
	r, err := rail.Default.Open(ctx, uri, rail.Env{Machine: e.machine, Rail: e.rail})
	if err == nil {
		e.rails = append(e.rails, r)
	}
	return r, err
}

func (e *end) rail(scheme string) *rail.Rail {
	for _, r := range e.rails {
		if r.Scheme() == scheme {
			return r
		}
	}
	return nil
}

// progressEvery is how often an end says how far it is.
const progressEvery = 100 * time.Millisecond

// A meterer is a rail that pays without orders: coins that add up in a session.
type meterer interface {
	Meter(ctx context.Context, session coinop.OrderID, coins uint64) error
}

// payment is what one call of the workload does. The rail was opened with the
// amount as its coin, so a metered payment is one coin.
func (e *end) payment(q question) (once func(context.Context) error, metered bool) {
	if m, ok := rail.As[meterer](e.rails[len(e.rails)-1]); ok && !q.Orders {
		session := purse.NewOrderID()
		return func(ctx context.Context) error { return m.Meter(ctx, session, 1) }, true
	}
	return func(ctx context.Context) error {
		_, err := e.purse.Pay(ctx, coinop.Order{ID: purse.NewOrderID(), To: e.to, Amount: q.Amount})
		return err
	}, false
}

// pay is the workload: so many callers, each paying again and again.
func (e *end) pay(ctx context.Context, q question) (a answer, err error) {
	runtime.GC() // so that every run begins with an equal heap
	once, metered := e.payment(q)
	var next, done atomic.Int64
	took := new(histogram)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	begin := time.Now()
	var callers sync.WaitGroup
	for range min(q.Concurrency, q.Payments) {
		callers.Go(func() {
			for ctx.Err() == nil && next.Add(1) <= int64(q.Payments) {
				asked := time.Now()
				if err := once(ctx); err != nil {
					cancel(err)
					return
				}
				took.add(time.Since(asked))
				done.Add(1)
			}
		})
	}
	finished := make(chan struct{})
	go func() { callers.Wait(); close(finished) }()
	e.report(finished, &done)
	if err := context.Cause(ctx); err != nil {
		return a, err
	}
	if metered {
		e.metered += q.Amount * coinop.Amount(q.Payments)
	}
	a.Paid = &paid{Took: time.Since(begin), P50: took.quantile(0.50), P99: took.quantile(0.99), Metered: metered}
	return a, nil
}

// report says how far the workload is until it is finished.
func (e *end) report(finished <-chan struct{}, done *atomic.Int64) {
	t := time.NewTicker(progressEvery)
	defer t.Stop()
	for {
		select {
		case <-finished:
			return
		case <-t.C:
			if n := done.Load(); n > 0 {
				e.out.Encode(answer{Done: uint64(n)})
			}
		}
	}
}

func (e *end) count(ctx context.Context) (*counts, error) {
	c := readKernel()
	if counter, ok := e.db.(store.Counter); ok {
		n := counter.Counts()
		c.Store = &n
	}
	c.Wire = e.machine.Wire()
	c.Rounds, c.Events = e.machine.Host.Counts()
	var err error
	c.Signatures, err = e.signatures(ctx)
	return &c, err
}

// A told is what the lab wants from a rail's summaries. A rail that does not
// say leaves it nil.
type told struct {
	Signatures *uint64 `json:"signatures"`
}

// summaries reads a rail's channels.
func summaries(ctx context.Context, r *rail.Rail) (all []told, err error) {
	teller, ok := rail.As[interface {
		Summary(context.Context) ([]any, error)
	}](r)
	if !ok {
		return nil, nil
	}
	channels, err := teller.Summary(ctx)
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(channels)
	if err != nil {
		return nil, err
	}
	return all, json.Unmarshal(raw, &all)
}

// signatures adds up what the rails' cores say they have signed; nil if one
// does not say.
func (e *end) signatures(ctx context.Context) (*uint64, error) {
	sum := uint64(0)
	for _, r := range e.rails {
		all, err := summaries(ctx, r)
		if err != nil {
			return nil, err
		}
		for _, s := range all {
			if s.Signatures == nil {
				return nil, nil
			}
			sum += *s.Signatures
		}
		if len(all) == 0 {
			return nil, nil
		}
	}
	return &sum, nil
}

// shut closes the rails, the one that settles over another first.
func (e *end) shut(ctx context.Context) error {
	for _, r := range slices.Backward(e.rails) {
		if c, ok := rail.As[rail.Closer](r); ok {
			if err := c.Shut(ctx, false); err != nil {
				return fmt.Errorf("%s: %w", r.Scheme(), err)
			}
		}
	}
	return nil
}

// book is what the till has earned, or else what the purse has paid and what
// went past it through a meter.
func (e *end) book(ctx context.Context) (a answer, err error) {
	if e.till != nil {
		s, err := e.till.Summary(ctx)
		a.Booked = s.Earned
		return a, err
	}
	s, err := e.purse.Summary(ctx)
	a.Booked = s.Paid + e.metered
	return a, err
}

func (e *end) close() {
	if e.echo != nil {
		e.echo.Close()
	}
	if e.machine != nil {
		e.machine.Close()
	}
	if e.db != nil {
		e.db.Close()
	}
	if e.chain != nil {
		e.chain.Close()
	}
	e.profiler.stop()
}

// listenEcho says back whatever it is told, over the same kind of link as the
// rail's, so that a bare round trip can be timed.
func (e *end) listenEcho(ctx context.Context) (addr string, err error) {
	l, err := tcp.Listen("127.0.0.1:0", e.machine.Key, link.Options{})
	if err != nil {
		return "", err
	}
	go func() {
		defer l.Close()
		s, err := l.Accept(ctx)
		for err == nil {
			var msg []byte
			if msg, err = s.Recv(); err == nil {
				err = s.Send(msg)
			}
		}
	}()
	return l.Addr().String(), nil
}
