// Package rail moves value. Users hold a *Rail; authors of a new one implement
// Driver and Conn, register a scheme, and run railtest.
//
// The scheme of a payment URI (oneway:, payword:, …) picks the rail that can
// pay it, and the scheme of a rail's own URI picks its driver: the same word.
// A URI never carries a secret, so it is safe to log.
package rail

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"

	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
	"coinop.dev/engine"
)

// Env is what a driver may use; it opens nothing by itself, so any rail can run
// inside a test or the lab.
type Env struct {
	// Machine holds the key, the store, the links and the chain.
	Machine *engine.Machine
	// Rail returns another open rail by its scheme, for rails that settle over
	// one; nil if there is none.
	Rail func(scheme string) *Rail
}

// A Driver opens rails of one kind.
type Driver interface {
	Open(ctx context.Context, u *url.URL, env Env) (Conn, error)
}

// A NetworkDriver opens rails that are a Network.
type NetworkDriver interface {
	Driver
	// Speaks lists the schemes of the payment URIs that its rails pay, whoever
	// the payee is.
	Speaks() []string
}

// A Verifier is a Driver whose receipts are checked offline in a way of their own.
// Those of others are stamped (VerifyStamp).
type Verifier interface{ Verify(r money.Receipt) error }

// A Conn is one open rail.
type Conn interface {
	// Pay returns a receipt with its proof, or an error whose kind is Unpaid
	// (certainly not paid) or Pending (may be paid; call again with the same
	// order). An order that is paid twice is paid once, and both calls return
	// the same proof.
	Pay(ctx context.Context, o money.Order) (money.Receipt, error)
	// Verify checks a receipt offline.
	Verify(r money.Receipt) error
	Close() error
}

// A Native rail is a core on the payer's own machine: an order reaches it, and
// its outcome comes back, inside one durable write. Its outcomes must go to the
// purse's book (drive.Host.Add's listeners).
type Native interface{ Core() string }

// A Biller is a rail that can also be paid. Its outcomes must go to the till's
// book.
type Biller interface {
	// PayTo is the payment URI under which this machine is paid.
	PayTo() string
	// Bill returns a payment URI for one bill. What is paid by a bill with Hold
	// comes to the till as a receipt.Held first; a rail that cannot hold refuses
	// it (Refused).
	Bill(b money.Bill) (string, error)
	// Settled blocks for the next payment. Payments that nobody waits for are
	// in the till's book all the same.
	Settled(ctx context.Context) (money.Receipt, error)
}

// A Prover is a rail that can be asked for the receipt of an order it has
// settled, without any chance that the question pays for it.
type Prover interface {
	Prove(ctx context.Context, id money.OrderID) (money.Receipt, error)
}

// A Closer is a rail whose channels are closed with a transaction.
type Closer interface {
	// Shut closes all channels and waits until the closings are in the chain.
	Shut(ctx context.Context, force bool) error
}

// A Network is a rail that can pay anybody, not only whom its own URI names.
type Network interface {
	// Reaches reports whether the rail can try a payment URI of its scheme.
	Reaches(uri string) bool
}

// A Rail is an open rail as its users hold it.
type Rail struct {
	scheme string
	speaks []string
	uri    string
	conn   Conn
}

// Scheme is the word that payment URIs of this rail begin with.
func (r *Rail) Scheme() string { return r.scheme }

// Speaks reports whether the rail pays URIs of a scheme: its own, or one that
// names the same money.
func (r *Rail) Speaks(scheme string) bool {
	return scheme == r.scheme || slices.Contains(r.speaks, scheme)
}

// String is the URI the rail was opened with.
func (r *Rail) String() string { return r.uri }

// Core names the rail's core on this machine, if it is one.
func (r *Rail) Core() (string, bool) {
	if n, ok := r.conn.(Native); ok {
		core := n.Core()
		return core, core != ""
	}
	return "", false
}

// As gives the optional power T of the rail: Biller, Sealer, Closer.
func As[T any](r *Rail) (T, bool) {
	t, ok := r.conn.(T)
	return t, ok
}

// Pay pays an order. An error always has a kind; a rail that does not say gets
// Pending, the answer that cannot lose money.
func (r *Rail) Pay(ctx context.Context, o money.Order) (money.Receipt, error) {
	if scheme, _, _ := strings.Cut(o.To, ":"); !r.Speaks(scheme) {
		return money.Receipt{}, r.fail(money.Invalid, o, fmt.Errorf("rail %s cannot pay it", r.scheme))
	}
	if o.Amount == 0 || o.Amount > money.MaxAmount {
		return money.Receipt{}, r.fail(money.Invalid, o, fmt.Errorf("the amount is %v", o.Amount))
	}
	receipt, err := r.conn.Pay(ctx, o)
	if err != nil {
		var known *money.Error
		if errors.As(err, &known) {
			return receipt, err
		}
		return receipt, r.fail(money.KindOf(err), o, err)
	}
	if err := r.Verify(receipt); err != nil {
		return receipt, r.fail(money.Pending, o, err)
	}
	if receipt.Order != o.ID || receipt.Amount != o.Amount {
		return receipt, r.fail(money.Pending, o, fmt.Errorf("the receipt is for %v of order %v", receipt.Amount, receipt.Order))
	}
	return receipt, nil
}

// Prove returns the receipt of an order that was settled, if the rail is a
// Prover and still has it.
func (r *Rail) Prove(ctx context.Context, id money.OrderID) (money.Receipt, error) {
	if p, ok := r.conn.(Prover); ok {
		return p.Prove(ctx, id)
	}
	return money.Receipt{}, &money.Error{Kind: money.Refused, Op: "prove " + id.String(), Err: money.ErrForgotten}
}

func (r *Rail) fail(kind money.Kind, o money.Order, err error) error {
	return &money.Error{Kind: kind, Op: "pay " + o.To, Err: err}
}

// Receipt is what a settled order of a stamped channel proves (core/receipt).
func Receipt(p receipt.Evidence, to string, at step.Time) money.Receipt {
	return money.Receipt{Order: p.Entry().Order, Amount: p.Entry().Amount, To: to, At: int64(at), Proof: p.Proof()}
}

// Payee is a payment URI without what a bill has added to it.
func Payee(uri string) string {
	to, query, _ := strings.Cut(uri, "?")
	var rest []string
	for _, p := range strings.Split(query, "&") {
		if p != "" && !strings.HasPrefix(p, "order=") && !strings.HasPrefix(p, "amount_msat=") {
			rest = append(rest, p)
		}
	}
	if len(rest) > 0 {
		to += "?" + strings.Join(rest, "&")
	}
	return to
}

// VerifyStamp checks offline that the node a receipt's payment URI names has
// stamped the order.
func VerifyStamp(r money.Receipt) error {
	_, rest, _ := strings.Cut(r.To, "://")
	rest, _, _ = strings.Cut(rest, "?")
	node, _, err := engine.Address(rest)
	if err == nil {
		_, err = receipt.Verify(receipt.Entry{Order: r.Order, Amount: r.Amount}, node, r.Proof)
	}
	return err
}

// Verify checks a receipt offline.
func (r *Rail) Verify(receipt money.Receipt) error { return r.conn.Verify(receipt) }

// Close closes the rail, not its channels.
func (r *Rail) Close() error { return r.conn.Close() }

// A Registry finds the driver for a URI by its scheme. The zero Registry is
// empty.
type Registry struct {
	mu      sync.Mutex
	drivers map[string]Driver
}

// Default is what rail/all fills with the rails that are linked in.
var Default Registry

// Register adds the driver for a scheme. A nil driver or a scheme registered
// twice is a mistake in the program, so it panics.
func (g *Registry) Register(scheme string, d Driver) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case d == nil:
		panic("rail: the driver for " + scheme + " is nil")
	case g.drivers[scheme] != nil:
		panic("rail: two drivers for " + scheme)
	case g.drivers == nil:
		g.drivers = map[string]Driver{}
	}
	g.drivers[scheme] = d
}

// Schemes lists what is registered, in alphabetical order.
func (g *Registry) Schemes() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	schemes := make([]string, 0, len(g.drivers))
	for s := range g.drivers {
		schemes = append(schemes, s)
	}
	slices.Sort(schemes)
	return schemes
}

// maxURI bounds a rail or payment URI, in bytes.
const maxURI = 512

// Parse checks a rail or payment URI without opening anything.
func (g *Registry) Parse(uri string) (*url.URL, error) {
	if len(uri) > maxURI {
		return nil, fmt.Errorf("rail URI is %d bytes; the limit is %d", len(uri), maxURI)
	}
	u, err := url.Parse(uri)
	if err != nil {
		return nil, fmt.Errorf("rail %.100q: %w", uri, errors.Unwrap(err))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.drivers[u.Scheme] == nil {
		return nil, fmt.Errorf("rail %.100q: no rail is called %q; this build has %s", uri, u.Scheme, strings.Join(sorted(g.drivers), ", "))
	}
	return u, nil
}

func sorted(m map[string]Driver) (names []string) {
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Open opens the rail that uri names.
func (g *Registry) Open(ctx context.Context, uri string, env Env) (*Rail, error) {
	u, err := g.Parse(uri)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	d := g.drivers[u.Scheme]
	g.mu.Unlock()
	conn, err := d.Open(ctx, u, env)
	if err != nil {
		return nil, fmt.Errorf("rail %s: %w", uri, err)
	}
	return &Rail{scheme: u.Scheme, speaks: g.Speaks(u.Scheme), uri: uri, conn: conn}, nil
}

// Speaks lists what rails of a scheme pay besides whom their own URI names.
func (g *Registry) Speaks(scheme string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n, ok := g.drivers[scheme].(NetworkDriver); ok {
		return n.Speaks()
	}
	return nil
}

// Params reads a rail URI's query strictly: a key the rail does not know, or a
// value it cannot read, is an error that names it.
type Params struct {
	values url.Values
	err    error
}

// Query returns the parameters of u.
func Query(u *url.URL) *Params {
	values, err := url.ParseQuery(u.RawQuery)
	return &Params{values, err}
}

// Amount reads an amount such as 20000sat.
func (p *Params) Amount(key string, otherwise money.Amount) money.Amount {
	return read(p, key, otherwise, money.ParseAmount)
}

// Int reads a number from low to high.
func (p *Params) Int(key string, otherwise, low, high int) int {
	return read(p, key, otherwise, func(text string) (n int, err error) {
		if _, err := fmt.Sscanf(text, "%d", &n); err != nil || fmt.Sprint(n) != text || n < low || n > high {
			return 0, fmt.Errorf("%s=%.40q is not a number from %d to %d", key, text, low, high)
		}
		return n, nil
	})
}

// Text reads a word.
func (p *Params) Text(key, otherwise string) string {
	return read(p, key, otherwise, func(text string) (string, error) { return text, nil })
}

func read[T any](p *Params, key string, otherwise T, parse func(string) (T, error)) T {
	text := p.values.Get(key)
	p.values.Del(key)
	if text == "" {
		return otherwise
	}
	v, err := parse(text)
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("parameter %s: %w", key, err)
	}
	return v
}

// Close returns the first error; a parameter that nobody read is one.
func (p *Params) Close() error {
	if p.err != nil {
		return p.err
	}
	for key := range p.values {
		return fmt.Errorf("parameter %.40q is unknown to this rail", key)
	}
	return nil
}

// Verify checks a receipt offline, by the rail that its payee is paid over.
func (g *Registry) Verify(r money.Receipt) error {
	scheme, _, _ := strings.Cut(r.To, ":")
	g.mu.Lock()
	d := g.drivers[scheme]
	g.mu.Unlock()
	if v, ok := d.(Verifier); ok {
		return v.Verify(r)
	}
	if d == nil {
		return fmt.Errorf("the receipt is of rail %.20q, which this build has not: %s", scheme, strings.Join(g.Schemes(), ", "))
	}
	return VerifyStamp(r)
}
