package lndrail

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"coinop.dev/core/billing"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/invoice"
	"coinop.dev/core/money"
	"coinop.dev/engine"
	"coinop.dev/rail"
	"coinop.dev/rail/lndrail/lnrpc"
	"coinop.dev/world/drive"
)

const (
	// routePatience is how long lnd looks for routes, in seconds. What is on
	// its way then goes on.
	routePatience = 60
	// maxParts is how many routes lnd may split a payment over.
	maxParts = 16
)

// payer is the paying end.
type payer struct {
	m      *engine.Machine
	scheme string
	conn   *grpc.ClientConn
	router lnrpc.RouterClient
	maxFee money.Amount
	asks   atomic.Uint64

	ctx     context.Context // of the flights
	cancel  context.CancelFunc
	running sync.WaitGroup
	payees  *rail.Customer

	mu      sync.Mutex
	flights map[money.OrderID]*flight
}

// A flight is an order on its way. It goes on when the caller has left.
type flight struct {
	order   money.Order
	done    chan struct{}
	receipt money.Receipt
	err     error
}

func openPayer(ctx context.Context, scheme string, m *engine.Machine, conn *grpc.ClientConn, maxFee money.Amount) (rail.Conn, error) {
	c := &payer{m: m, scheme: scheme, conn: conn, router: lnrpc.NewRouterClient(conn), maxFee: maxFee, flights: map[money.OrderID]*flight{}}
	_, err := c.track(ctx, probe)
	if err := probed("pay (offchain:read, offchain:write)", err); err != nil {
		return nil, err
	}
	book, err := loadOrders(m.DB)
	if err != nil {
		return nil, err
	}
	err = m.Host.Do(ctx, func(m *drive.Machine) {
		if m.Core(ordersName) == nil { // another lnd's rail may have brought it
			m.Add(ordersName, book)
		}
	})
	if err != nil {
		return nil, err
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.payees = rail.NewCustomer(m)
	return c, nil
}

// Close leaves what is on its way to lnd. Paying the order again finds it.
func (c *payer) Close() error {
	c.payees.Close()
	c.mu.Lock() // an order that starts now is the last
	c.cancel()
	c.mu.Unlock()
	c.running.Wait()
	return c.conn.Close()
}

// Pay pays an order, or waits for it if it is on its way.
func (c *payer) Pay(ctx context.Context, o money.Order) (money.Receipt, error) {
	f, err := c.start(o)
	if err != nil {
		return money.Receipt{}, &money.Error{Kind: money.KindOf(err), Op: "pay " + o.To, Err: err}
	}
	select {
	case <-f.done:
		return f.receipt, f.err
	case <-ctx.Done():
		return money.Receipt{}, &money.Error{Kind: money.Pending, Op: "pay " + o.To, Err: ctx.Err()}
	}
}

// start joins the order's flight, or makes one.
func (c *payer) start(o money.Order) (*flight, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.flights[o.ID]
	switch {
	case f != nil && (f.order.Amount != o.Amount || f.order.To != o.To):
		return nil, invalid("order %v is on its way with %v to %s", o.ID, f.order.Amount, f.order.To)
	case f != nil:
		return f, nil
	case c.ctx.Err() != nil:
		return nil, errClosed
	case len(c.flights) >= MaxOpen:
		return nil, &money.Error{Kind: money.Unpaid, Err: fmt.Errorf("%d orders are on their way already", MaxOpen)}
	}
	f = &flight{order: o, done: make(chan struct{})}
	c.flights[o.ID] = f
	c.running.Go(func() {
		f.receipt, f.err = c.fly(f)
		c.mu.Lock()
		delete(c.flights, o.ID)
		c.mu.Unlock()
		close(f.done)
	})
	return f, nil
}

var errClosed = errors.New("the rail is closed")

func invalid(format string, args ...any) error {
	return &money.Error{Kind: money.Invalid, Err: fmt.Errorf(format, args...)}
}

// fly brings an order to its end: it is paid, certainly unpaid, or the rail is
// closed.
func (c *payer) fly(f *flight) (money.Receipt, error) {
	o := f.order
	fail := func(kind money.Kind, err error) (money.Receipt, error) {
		return money.Receipt{}, &money.Error{Kind: kind, Op: "pay " + o.To, Err: err}
	}
	to, _, _ := strings.Cut(o.To, "?")
	known, err := c.find(o.ID)
	if err != nil {
		return fail(money.Pending, err)
	}
	fresh := known == nil
	if fresh {
		terms, err := c.terms(f, to)
		if err != nil && c.ctx.Err() == nil && !errors.Is(err, drive.ErrStopped) {
			return fail(money.Unpaid, err)
		} else if err != nil {
			return fail(money.Pending, err)
		}
		// Only what is on disk is told to lnd.
		if known, err = c.ask(func(ask string) any { return take{ask, *terms} }); err != nil {
			return fail(kindOfTake(err), err)
		}
	}
	if known.amount != o.Amount || known.to != to {
		return fail(money.Invalid, fmt.Errorf("order %v is known, with %v to %s", o.ID, known.amount, known.to))
	}
	if !known.paid {
		preimage, err := c.settle(known, fresh)
		switch {
		case money.KindOf(err) == money.Unpaid:
			if _, dropErr := c.ask(func(ask string) any { return drop{ask, o.ID} }); dropErr != nil {
				return fail(money.Pending, errors.Join(err, dropErr))
			}
			return fail(money.Unpaid, err)
		case err != nil:
			return fail(money.Pending, err)
		}
		if known, err = c.ask(func(ask string) any { return settle{ask, o.ID, preimage} }); err != nil {
			return fail(money.Pending, err)
		}
	}
	return money.Receipt{Order: o.ID, Amount: known.amount, To: known.to, At: int64(c.m.Host.Now()), Proof: known.proof()}, nil
}

// kindOfTake: an order that the book does not take has not been told to lnd. A
// host that stopped may have it on disk.
func kindOfTake(err error) money.Kind {
	if errors.Is(err, drive.ErrStopped) || errors.Is(err, context.Canceled) {
		return money.Pending
	}
	return money.Unpaid
}

// ask tells the book something and waits until it is on disk.
func (c *payer) ask(event func(ask string) any) (*owed, error) {
	ask := fmt.Sprintf("%p/%d", c, c.asks.Add(1))
	v, err := c.m.Host.Ask(c.ctx, ordersName, ask, event(ask))
	o, _ := v.(*owed)
	return o, err
}

func (c *payer) find(id money.OrderID) (*owed, error) {
	return c.ask(func(ask string) any { return find{ask, id} })
}

// terms finds out which invoice pays an order: it is in the payment URI, or its
// payee is asked.
func (c *payer) terms(f *flight, to string) (*owed, error) {
	name, ok := strings.CutPrefix(to, c.scheme+"://")
	if !ok {
		text, _ := invoiceIn(c.scheme, to)
		hash, err := fits(text, f.order.Amount)
		return &owed{order: f.order.ID, amount: f.order.Amount, to: to, hash: hash}, err
	}
	node, bill, err := c.payees.Ask(c.ctx, name, f.order)
	if err != nil {
		return nil, err
	}
	return read(bill, f.order, node, to)
}

// read checks a payee's answer.
func read(bill billing.Bill, o money.Order, node keys.Public, to string) (*owed, error) {
	hash, err := fits(bill.Invoice, o.Amount)
	if err != nil {
		return nil, err
	}
	if !billing.Verify(node, o.ID, o.Amount, hash, bill.Word) {
		return nil, errors.New("the payee's invoice is not signed for this order")
	}
	return &owed{order: o.ID, amount: o.Amount, to: to, hash: hash, invoice: bill.Invoice, word: bill.Word}, nil
}

// fits reads an invoice of exactly an amount. One that leaves the amount to the
// payer would prove none.
func fits(text string, a money.Amount) (hash [32]byte, err error) {
	i, err := invoice.Parse(text)
	if err != nil {
		return hash, err
	}
	if len(text) > maxTo {
		return hash, fmt.Errorf("the invoice has %d characters; the limit is %d", len(text), maxTo)
	}
	if i.Amount != a {
		return hash, fmt.Errorf("the invoice is for %v, the order for %v", i.Amount, a)
	}
	return i.Hash, nil
}

// settle has lnd pay, and finds out how it ended, whatever happens on the way:
// lnd pays a hash once, so it can be told again.
func (c *payer) settle(o *owed, fresh bool) (preimage [32]byte, err error) {
	text := o.invoice
	if text == "" {
		_, text, _ = strings.Cut(o.to, ":")
	}
	for wait := time.Duration(0); ; fresh = false {
		p, err := c.send(c.ctx, text, o.amount)
		switch status.Code(err) {
		case codes.OK:
			return ended(o, p)
		case codes.AlreadyExists:
			if fresh {
				return preimage, unpaid(fmt.Errorf("lnd has paid this invoice before, and not for this order: %w", err))
			}
		case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded:
			// lnd may or may not have heard it. It is told again.
			if !pause(c.ctx, &wait) {
				return preimage, errors.Join(errClosed, err)
			}
			continue
		}
		// lnd has said no. If it knows the hash, an earlier time counts.
		said := err
		p, err = c.track(c.ctx, o.hash[:])
		switch status.Code(err) {
		case codes.OK:
			return ended(o, p)
		case codes.NotFound:
			return preimage, unpaid(said)
		}
		if !pause(c.ctx, &wait) {
			return preimage, errors.Join(errClosed, err)
		}
	}
}

func unpaid(err error) error { return &money.Error{Kind: money.Unpaid, Err: err} }

// ended reads the final state of a payment.
func ended(o *owed, p *lnrpc.Payment) (preimage [32]byte, err error) {
	if p.Status == lnrpc.Payment_FAILED {
		return preimage, unpaid(fmt.Errorf("lnd: %v", p.FailureReason))
	}
	raw, err := hex.DecodeString(p.PaymentPreimage)
	if err != nil || len(raw) != len(preimage) {
		return preimage, fmt.Errorf("lnd says %v with the preimage %.70q", p.Status, p.PaymentPreimage)
	}
	copy(preimage[:], raw)
	if sha256.Sum256(preimage[:]) != o.hash {
		return preimage, fmt.Errorf("lnd's preimage is not of %x", o.hash)
	}
	return preimage, nil
}

// fee is what routing a payment may cost on top of it.
func (c *payer) fee(a money.Amount) money.Amount { return max(c.maxFee, a/100) }

func (c *payer) send(ctx context.Context, text string, a money.Amount) (*lnrpc.Payment, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	updates, err := c.router.SendPaymentV2(ctx, &lnrpc.SendPaymentRequest{
		PaymentRequest: text, TimeoutSeconds: routePatience, FeeLimitMsat: int64(c.fee(a)), MaxParts: maxParts, NoInflightUpdates: true,
	})
	return last(updates, err)
}

func (c *payer) track(ctx context.Context, hash []byte) (*lnrpc.Payment, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	updates, err := c.router.TrackPaymentV2(ctx, &lnrpc.TrackPaymentRequest{PaymentHash: hash, NoInflightUpdates: true})
	return last(updates, err)
}

// last waits for the final state of a payment.
func last(updates grpc.ServerStreamingClient[lnrpc.Payment], err error) (*lnrpc.Payment, error) {
	for err == nil {
		var p *lnrpc.Payment
		if p, err = updates.Recv(); err == nil && (p.Status == lnrpc.Payment_SUCCEEDED || p.Status == lnrpc.Payment_FAILED) {
			return p, nil
		}
	}
	if _, known := status.FromError(err); !known { // the stream ended without a word
		err = status.Error(codes.Unavailable, err.Error())
	}
	return nil, err
}

// Prove returns the receipt of an order that was paid.
func (c *payer) Prove(ctx context.Context, id money.OrderID) (money.Receipt, error) {
	o, err := c.find(id)
	if err == nil && (o == nil || !o.paid) {
		err = &money.Error{Kind: money.Refused, Op: "prove " + id.String(), Err: money.ErrForgotten}
	}
	if err != nil {
		return money.Receipt{}, err
	}
	return money.Receipt{Order: id, Amount: o.amount, To: o.to, At: int64(c.m.Host.Now()), Proof: o.proof()}, nil
}

// invoices is the scheme of invoices that are no rail's in particular.
const invoices = "lightning"

// invoiceIn is the invoice in a payment URI.
func invoiceIn(scheme, to string) (text string, ok bool) {
	for _, word := range []string{scheme, invoices} {
		if text, ok = strings.CutPrefix(to, word+":"); ok && !strings.HasPrefix(text, "//") {
			return strings.ToLower(text), true
		}
	}
	return "", false
}

// Verify checks a receipt offline.
func (c *payer) Verify(r money.Receipt) error { return verify(c.scheme, r) }

func verify(scheme string, r money.Receipt) error {
	p, err := billing.ReadProof(r.Proof)
	if err != nil {
		return err
	}
	to, _, _ := strings.Cut(r.To, "?")
	if name, ok := strings.CutPrefix(to, scheme+"://"); ok {
		text, _, _ := strings.Cut(name, "@")
		node, err := keys.ParsePublicHex(text)
		if err != nil {
			return err
		}
		return p.Verify(node, r.Order, r.Amount)
	}
	text, ok := invoiceIn(scheme, to)
	if !ok {
		return fmt.Errorf("%.100q is not paid by rail %s", to, scheme)
	}
	hash, err := fits(text, r.Amount)
	if err == nil && (p.Word != keys.Signature{} || sha256.Sum256(p.Preimage[:]) != hash) {
		err = errors.New("the preimage is not the invoice's")
	}
	return err
}
