package lab

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/engine"
	"coinop.dev/purse"
	"coinop.dev/rail"
	"coinop.dev/rail/bitcoinrail"
	"coinop.dev/till"
	"coinop.dev/world/chain"
	"coinop.dev/world/chain/regtest"
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
	metered  money.Amount
	to       string
	echo     *link.Session
	profiler profiler
	gate     *gate // of a gateway's process
	load     load  // of the one that visits it
	ledger   ledgerNode
	finals   *finals
	grower   *latticeNetwork
	growing  <-chan []unit
	grown    uint64 // units submitted
	units    []unit
}

func (e *end) do(ctx context.Context, q question) (a answer, err error) {
	switch q.Do {
	case "start":
		return e.start(ctx, q)
	case "join":
		return e.join(ctx, q)
	case "pay":
		return e.pay(ctx, q)
	case "risk":
		a.AtRisk, err = e.risk(ctx)
	case "count":
		a.Counts, err = e.count(ctx, q.Rest)
	case "balance":
		a.Booked, err = e.balance(ctx)
	case "limits":
		a.Limits, err = e.limits()
	case "shut":
		return a, e.shut(ctx)
	case "book":
		return e.book(ctx)
	default:
		if strings.HasPrefix(q.Do, "ledger ") {
			return e.ledgerDo(ctx, q)
		}
		if q.Door == nil {
			return a, fmt.Errorf("nothing is called %q", q.Do)
		}
		a.Door, err = e.door(ctx, q)
	}
	return a, err
}

func (e *end) start(ctx context.Context, q question) (a answer, err error) {
	e.dir = q.Dir
	e.profiler.start(q.Profile)
	key, err := keyIn(q.Key)
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
	if q.Wallet {
		if a.Script, err = bitcoinrail.Fund(key, regtest.Params()); err != nil {
			return a, err
		}
	}
	e.purse, err = purse.Open(ctx, e.machine, purse.Options{})
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

// keyIn reads a key, or makes one that the end finds when it is started again.
func keyIn(path string) (key keys.Secret, err error) {
	raw, err := os.ReadFile(path)
	if err == nil {
		return keys.SecretFromBytes(raw)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if key, err = keys.NewSecret(rand.Reader); err != nil {
		return key, err
	}
	return key, os.WriteFile(path, key.Reveal(), 0o600)
}

// join opens the rails: an end that is paid has a till, one that pays a purse,
// and one that forwards neither.
func (e *end) join(ctx context.Context, q question) (a answer, err error) {
	if len(q.Earns) > 0 {
		if a, err = e.earn(ctx, q); err != nil {
			return a, err
		}
	}
	for _, uri := range q.Pays {
		r, err := e.openFunded(ctx, uri)
		if err != nil {
			return a, err
		}
		if len(q.Earns) > 0 {
			continue
		}
		if err := e.purse.Hold(ctx, r); err != nil {
			return a, err
		}
	}
	// Only now is there a node that can answer a greeting.
	for _, peer := range q.Links {
		key, addr, err := engine.Address(peer)
		if err != nil {
			return a, err
		}
		if err := e.machine.Connect(ctx, addr, key); err != nil {
			return a, err
		}
	}
	if q.Channels > 1 {
		if err := e.widen(ctx, q); err != nil {
			return a, err
		}
	}
	if e.to = q.To; e.to == "" {
		return a, nil
	}
	_, peer, _ := strings.Cut(q.To, "://")
	key, _, err := engine.Address(peer)
	if err != nil {
		return a, err
	}
	e.echo, err = tcp.Dial(ctx, q.Echo, e.machine.Key, key)
	return a, err
}

func (e *end) earn(ctx context.Context, q question) (a answer, err error) {
	addr, err := e.machine.Listen(cmp.Or(q.Listen, "127.0.0.1:0"))
	if err != nil {
		return a, err
	}
	if len(q.Pays) == 0 {
		if e.till, err = till.Open(ctx, e.machine, till.Options{}); err != nil {
			return a, err
		}
	}
	for _, uri := range q.Earns {
		separator := "?"
		if strings.Contains(uri, separator) {
			separator = "&"
		}
		if _, err := e.open(ctx, uri+separator+"host="+addr.String()); err != nil {
			return a, err
		}
	}
	a.Listen, a.Addr = addr.String(), e.machine.Key.Public().String()+"@"+addr.String()
	a.Echo, err = e.listenEcho(ctx)
	return a, err
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
		case <-time.After(fundsAgain):
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

func (e *end) close() {
	if e.load != nil {
		e.load.close()
	}
	if e.gate != nil {
		e.gate.close()
	}
	if e.echo != nil {
		e.echo.Close()
	}
	if e.ledger != nil {
		e.ledger.close()
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
