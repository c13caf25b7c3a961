package lndrail

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"coinop.dev/core/billing"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
	"coinop.dev/engine"
	"coinop.dev/rail"
	"coinop.dev/rail/lndrail/lnrpc"
	"coinop.dev/world/drive"
)

const (
	// lookAgain is when lnd is asked about open invoices after the stream of
	// payments has begun, if no payment has been filed yet: without a
	// settle_index lnd does not tell of what was paid before.
	lookAgain = time.Second
)

// payee is the earning end.
type payee struct {
	*rail.Earner
	m        *engine.Machine
	scheme   string
	conn     *grpc.ClientConn
	node     lnrpc.LightningClient
	invoices lnrpc.InvoicesClient
	expiry   int // seconds
	asks     atomic.Uint64

	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	cashier *rail.Cashier

	mu       sync.Mutex
	watching map[[32]byte]bool // what is to be held
}

func openPayee(ctx context.Context, scheme string, m *engine.Machine, conn *grpc.ClientConn, host string, expiry int) (rail.Conn, error) {
	c := &payee{
		m: m, scheme: scheme, conn: conn, node: lnrpc.NewLightningClient(conn), invoices: lnrpc.NewInvoicesClient(conn),
		expiry: expiry, watching: map[[32]byte]bool{},
	}
	_, err := c.node.LookupInvoice(ctx, &lnrpc.PaymentHash{RHash: probe})
	if err := probed("be paid (invoices:read, invoices:write)", err); err != nil {
		return nil, err
	}
	book, err := loadBills(m.DB)
	if err != nil {
		return nil, err
	}
	there := false
	err = m.Host.Do(ctx, func(m *drive.Machine) {
		if there = m.Core(billsName) != nil; !there {
			m.Add(billsName, book, trade.Seller)
		}
	})
	if err == nil && there {
		// Two lnds count their payments apart.
		err = errors.New("this machine is paid over an lnd already; one can earn")
	}
	if err != nil {
		return nil, err
	}
	c.Earner = rail.NewEarner(m, rail.PayToAt(scheme, m, host), billsName)
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.cashier = rail.NewCashier(m, func(ctx context.Context, from keys.Public, order money.OrderID, a money.Amount) (string, [32]byte, error) {
		x, err := c.bill(ctx, from.PeerName(), money.Bill{ID: order, Amount: a}, false)
		if err != nil {
			return "", [32]byte{}, err
		}
		return x.invoice, x.hash, nil
	})
	c.running.Go(c.listen)
	m.Host.Outlet(toLnd, func(p step.Packet) {
		if t, ok := p.Msg.(told); ok {
			c.run(func() { c.tell(t) })
		}
	})
	for _, hash := range book.waiting(true) {
		c.watch(hash)
	}
	return c, nil
}

// Close leaves the invoices: what is paid meanwhile is told next time.
func (c *payee) Close() error {
	c.cashier.Close()
	c.m.Host.Outlet(toLnd, nil)
	c.mu.Lock() // what starts now is the last
	c.cancel()
	c.mu.Unlock()
	c.running.Wait()
	return c.conn.Close()
}

// Verify checks a receipt offline.
func (c *payee) Verify(r money.Receipt) error { return verify(c.scheme, r) }

// listen files what lnd is paid, until the rail is closed.
func (c *payee) listen() {
	for wait := time.Duration(0); ; {
		began := time.Now()
		err := c.stream()
		if time.Since(began) > maxRetry {
			wait = 0
		}
		if !pause(c.ctx, &wait) {
			return
		}
		c.m.Log.Warn("lnd does not tell of payments; it is asked again", "err", err)
	}
}

func (c *payee) stream() error {
	var settled uint64
	err := c.m.Host.Do(c.ctx, func(m *drive.Machine) { settled = m.Core(billsName).(*bills).settled })
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(c.ctx)
	var looking sync.WaitGroup
	defer looking.Wait()
	defer cancel()
	stream, err := c.node.SubscribeInvoices(ctx, &lnrpc.InvoiceSubscription{SettleIndex: settled})
	if err != nil {
		return err
	}
	if settled == 0 {
		looking.Go(func() { c.look(ctx) })
	}
	for {
		i, err := stream.Recv()
		if err != nil {
			return err
		}
		if i.State == lnrpc.Invoice_SETTLED {
			// The next one's index says that this one is filed.
			if err := c.file(ctx, i, i.SettleIndex); err != nil {
				return err
			}
		}
	}
}

// look asks about every open invoice.
func (c *payee) look(ctx context.Context) {
	select {
	case <-time.After(lookAgain):
	case <-ctx.Done():
		return
	}
	var open [][32]byte
	if c.m.Host.Do(ctx, func(m *drive.Machine) { open = m.Core(billsName).(*bills).waiting(false) }) != nil {
		return
	}
	for _, hash := range open {
		i, err := c.node.LookupInvoice(ctx, &lnrpc.PaymentHash{RHash: hash[:]})
		if err == nil && i.State == lnrpc.Invoice_SETTLED {
			c.file(ctx, i, 0)
		}
	}
}

func (c *payee) file(ctx context.Context, i *lnrpc.Invoice, index uint64) error {
	paid := wasPaid{amount: money.Amount(i.AmtPaidMsat), index: index}
	if len(i.RHash) != len(paid.hash) || i.AmtPaidMsat < 0 || paid.amount > money.MaxAmount {
		return nil // lnd talks nonsense
	}
	copy(paid.hash[:], i.RHash)
	return c.m.Host.Tell(ctx, billsName, paid)
}

// Invoice returns a BOLT 11 invoice for a bill, for payers that are no machines
// of coinop's. Asked again it is the same while it can be paid.
func (c *payee) Invoice(ctx context.Context, b money.Bill) (string, error) {
	x, err := c.bill(ctx, "", b, false)
	if err != nil {
		return "", &money.Error{Kind: money.KindOf(err), Op: "bill " + b.ID.String(), Err: err}
	}
	return x.invoice, nil
}

// bill finds or makes the invoice of an order. Known has its preimage follow from
// the bill.
func (c *payee) bill(ctx context.Context, asker string, b money.Bill, known bool) (*bill, error) {
	if b.Amount == 0 || b.Amount > money.MaxAmount {
		return nil, invalid("the amount is %v", b.Amount)
	}
	old, err := c.find(ctx, b.ID)
	if err != nil {
		return nil, err
	}
	var gone [32]byte
	if old != nil {
		if asker == "" && old.hold != b.Hold {
			return nil, fmt.Errorf("order %v has an invoice already; that its payment is held: %v", b.ID, old.hold)
		}
		again, err := c.again(ctx, old, asker, b.Amount)
		if err != nil || again {
			return old, err
		}
		gone = old.hash
	}
	x := bill{order: b.ID, amount: b.Amount, asker: asker, hold: b.Hold, expires: c.m.Host.Now() + step.Time(c.expiry)*step.Second}
	var hash []byte
	if x.invoice, hash, err = c.add(ctx, &x, known); err != nil {
		return nil, fmt.Errorf("lnd makes no invoice: %w", err)
	}
	if len(hash) != len(x.hash) || len(x.invoice) > billing.MaxInvoice {
		return nil, fmt.Errorf("lnd makes an invoice of %d characters with a hash of %d bytes; the limits are %d and %d", len(x.invoice), len(hash), billing.MaxInvoice, len(x.hash))
	}
	copy(x.hash[:], hash)
	ask := c.nextAsk()
	v, err := c.m.Host.Ask(ctx, billsName, ask, file{ask, x, gone})
	if err != nil {
		return nil, err
	}
	filed := v.(answer).bill
	if filed.amount != b.Amount {
		return nil, fmt.Errorf("order %v was asked for with another amount at the same time", b.ID)
	}
	if filed.hold {
		c.watch(filed.hash)
	}
	return filed, nil
}

// again reports whether a bill that is known can be given out again. If not, it
// can never be paid any more.
func (c *payee) again(ctx context.Context, x *bill, asker string, a money.Amount) (bool, error) {
	if x.asker != asker && (x.asker != "" || x.amount != a) {
		return false, fmt.Errorf("order %v is another's", x.order)
	}
	if x.ended() {
		return false, fmt.Errorf("order %v is paid, or was given back", x.order)
	}
	i, err := c.node.LookupInvoice(ctx, &lnrpc.PaymentHash{RHash: x.hash[:]})
	switch {
	case err != nil:
		return false, fmt.Errorf("lnd does not say whether its invoice is paid: %w", err)
	case i.State == lnrpc.Invoice_CANCELED:
		return false, nil
	case x.amount == a:
		return true, nil
	case i.State != lnrpc.Invoice_OPEN:
		return false, fmt.Errorf("order %v is being paid with %v", x.order, x.amount)
	}
	// lnd refuses if it is paid at this moment.
	_, err = c.invoices.CancelInvoice(ctx, &lnrpc.CancelInvoiceMsg{PaymentHash: x.hash[:]})
	return false, err
}

func (c *payee) find(ctx context.Context, order money.OrderID) (*bill, error) {
	ask := c.nextAsk()
	v, err := c.m.Host.Ask(ctx, billsName, ask, findBill{ask, order})
	if err != nil {
		return nil, err
	}
	return v.(answer).bill, nil
}

func (c *payee) nextAsk() string { return fmt.Sprint(c.asks.Add(1)) }
