package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/btcsuite/btcd/address/v2"
	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/spf13/cobra"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/invoice"
	"coinop.dev/core/money"
	"coinop.dev/engine"
	"coinop.dev/purse"
	"coinop.dev/rail"
)

// payment is what pay was asked for.
type payment struct {
	to       string
	amount   string
	order    string
	item     string
	units    uint64
	count    uint64
	parallel int
	close    bool
	dryRun   bool
	timeout  time.Duration
}

func payCommand(u *ui) *cobra.Command {
	var path string
	p := payment{}
	var accept bool
	c := &cobra.Command{
		Use: "pay <payment URI>", Short: "Pay, or buy and wait for the goods",
		Long: "Pays over a rail of the config file, or opens the one that the URI names. With --order an interrupted payment can be\nrepeated: the same order is paid once.",
		Example: "  coinop pay -c buyer.toml 'oneway://02ab…@127.0.0.1:9736?order=…&amount_msat=5000'\n" +
			"  coinop pay -c buyer.toml oneway://02ab…@127.0.0.1:9736 --item reading --units 1",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage{errors.New("pay takes one payment URI")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			p.to = args[0]
			config, err := readConfig(path)
			if err != nil {
				return err
			}
			config.AcceptStale = accept
			return u.pay(cmd.Context(), config, p)
		},
	}
	configFlag(c, &path)
	staleFlag(c, &accept)
	f := c.Flags()
	f.StringVar(&p.amount, "amount", "", "how much, such as 5sat; not needed if the URI or the item says so")
	f.StringVar(&p.order, "order", "", "order ID, 32 hex digits; with --count the first of a row")
	f.StringVar(&p.item, "item", "", "buy this item of the seller")
	f.Uint64Var(&p.units, "units", 1, "how many units of the item")
	f.Uint64Var(&p.count, "count", 1, "pay so many orders, one after the other")
	f.IntVar(&p.parallel, "parallel", 1, "so many at a time")
	f.BoolVar(&p.close, "close", false, "close the channel afterwards, and wait until that is mined")
	f.BoolVar(&p.dryRun, "dry-run", false, "say what would be paid, and pay nothing")
	f.DurationVar(&p.timeout, "timeout", time.Minute, "give up waiting after this long; the order may still be paid")
	return c
}

// maxParallel bounds --parallel.
const maxParallel = 1024

func (u *ui) pay(ctx context.Context, config Config, p payment) error {
	order, rails, err := p.parse(config)
	if err != nil {
		return err
	}
	if p.dryRun {
		if err := u.print(map[string]any{"would_pay": order.To, "amount_msat": uint64(order.Amount), "order": order.ID, "count": p.count}); err != nil {
			return err
		}
		return exit{errors.New("dry run: nothing was paid"), 10}
	}
	config.Rails = rails
	s, err := openStation(context.WithoutCancel(ctx), config, nil, u.log(config.Name))
	if err != nil {
		return err
	}
	defer s.Close()
	opening, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	if err := s.synced(opening); err != nil {
		return exit{err, exitConnect}
	}
	if err := s.OpenRails(opening); err != nil {
		if errors.Is(err, tx.ErrFunds) {
			err = fmt.Errorf("%w; pay some to %s", err, walletAddress(s.Wallet().Public()))
		}
		return err
	}
	if p.item != "" {
		if order, err = p.price(opening, s, order); err != nil {
			return err
		}
	}
	if err := u.payAll(ctx, s, p, order); err != nil {
		return err
	}
	if p.close {
		return u.shut(ctx, s, p)
	}
	return nil
}

// parse reads the payment URI and the flags into an order, and says which rails
// to open: the config's, and the one that the URI names.
func (p *payment) parse(config Config) (o money.Order, rails []string, err error) {
	uri, err := rail.Default.Parse(p.to)
	if err != nil {
		return o, nil, usage{err}
	}
	query := uri.Query()
	o = money.Order{To: rail.Payee(p.to), For: p.item, ID: purse.NewOrderID()}
	due, err := invoiceDue(uri)
	if err != nil {
		return o, nil, usage{err}
	}
	if id := firstOf(p.order, query.Get("order")); id != "" {
		if err := o.ID.UnmarshalText([]byte(id)); err != nil {
			return o, nil, usage{err}
		}
	}
	amount := p.amount
	if msat := query.Get("amount_msat"); msat != "" && amount == "" {
		amount = msat + "msat"
	}
	switch {
	case amount != "":
		if o.Amount, err = money.ParseAmount(amount); err != nil {
			return o, nil, usage{err}
		}
	case due > 0:
		o.Amount = due
	case p.item == "":
		return o, nil, usage{errors.New("how much? give --amount, --item, or a URI with amount_msat")}
	}
	if p.count == 0 || p.parallel < 1 || p.parallel > maxParallel {
		return o, nil, usage{fmt.Errorf("--count must be at least 1, and --parallel 1 to %d", maxParallel)}
	}
	for key := range query {
		if key != "order" && key != "amount_msat" && key != "keysend" {
			return o, nil, usage{fmt.Errorf("payment URI has the unknown parameter %.40q", key)}
		}
	}
	rails, found := config.Rails, false
	for _, r := range rails {
		scheme, leads, _ := strings.Cut(r, "://")
		anybody := leads != "" && slices.Contains(rail.Default.Speaks(scheme), uri.Scheme)
		found = found || anybody || strings.SplitN(r, "?", 2)[0] == o.To
	}
	if !found && uri.Opaque != "" {
		return o, nil, usage{fmt.Errorf("no rail of the config pays invoices; add one, such as rails = [\"lightning://<node>@<host>:<port>\"]")}
	}
	if !found {
		rails = append(rails[:len(rails):len(rails)], o.To)
	}
	return o, rails, nil
}

// invoiceDue is the amount of the invoice in a payment URI, if it has one.
func invoiceDue(uri *url.URL) (money.Amount, error) {
	if uri.Opaque == "" {
		return 0, nil
	}
	i, err := invoice.Parse(uri.Opaque)
	return i.Amount, err
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// price asks the seller what the item costs.
func (p *payment) price(ctx context.Context, s *station, o money.Order) (money.Order, error) {
	_, rest, _ := strings.Cut(o.To, "://")
	seller, _, err := engine.Address(rest)
	if err != nil {
		return o, usage{err}
	}
	tariff, err := purse.Browse(ctx, s.Engine, seller)
	if err != nil {
		return o, exit{err, exitConnect}
	}
	names := []string{}
	for _, it := range tariff.Items {
		if it.Name != p.item {
			names = append(names, it.Name)
			continue
		}
		due, ok := it.Price.Times(p.units)
		if !ok || p.units == 0 {
			return o, usage{fmt.Errorf("%d units cannot be bought at once", p.units)}
		}
		o.Units = p.units
		if o.Amount == 0 {
			o.Amount = due
		}
		return o, nil
	}
	return o, exit{fmt.Errorf("the seller has no %q; it sells %s", p.item, strings.Join(names, ", ")), exitNotFound}
}

// synced waits until the chain has been fetched.
func (s *station) synced(ctx context.Context) error {
	if s.Chain == nil {
		return nil
	}
	for {
		changed := s.Chain.Changed()
		_, _, err := s.Chain.Tip(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-changed:
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("chain %s: %w", s.Chain, err)
		}
	}
}

// payAll pays order after order. The n-th has the first one's ID plus n, so a
// row that was interrupted can be paid again from its beginning.
func (u *ui) payAll(ctx context.Context, s *station, p payment, first money.Order) error {
	var mu sync.Mutex
	var failed error
	bar := newBar(u, "payments", p.count)
	defer bar.end()
	next, done, paid := uint64(0), uint64(0), money.Amount(0)
	begin := time.Now()
	var workers sync.WaitGroup
	for range min(uint64(p.parallel), p.count) {
		workers.Go(func() {
			for {
				mu.Lock()
				n := next
				stop := n >= p.count || failed != nil
				next++
				mu.Unlock()
				if stop {
					return
				}
				result, err := p.one(ctx, s, nth(first, n))
				mu.Lock()
				if err == nil {
					done++
					paid += first.Amount
					if p.count == 1 {
						err = u.print(result)
					}
				}
				if err != nil && failed == nil {
					failed = err
				}
				bar.set(done)
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	if p.count > 1 {
		took := time.Since(begin)
		summary := map[string]any{"payments": done, "paid_msat": uint64(paid), "seconds": took.Seconds()}
		if err := u.show(summary, func(w io.Writer) {
			fmt.Fprintf(w, "%d payments, %v, in %v\n", done, paid, took.Round(time.Millisecond))
		}); err != nil {
			return err
		}
	}
	return failed
}

func nth(o money.Order, n uint64) money.Order {
	low := binary.BigEndian.Uint64(o.ID[8:])
	binary.BigEndian.PutUint64(o.ID[8:], low+n)
	return o
}

func (p *payment) one(ctx context.Context, s *station, o money.Order) (map[string]any, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	if p.item == "" {
		r, err := s.Purse.Pay(ctx, o)
		return map[string]any{"receipt": r}, err
	}
	_, rest, _ := strings.Cut(o.To, "://")
	seller, _, err := engine.Address(rest)
	if err != nil {
		return nil, usage{err}
	}
	r, goods, err := s.Purse.Buy(ctx, o, seller)
	result := map[string]any{"receipt": r}
	if json.Valid(goods.Payload) {
		result["goods"] = json.RawMessage(goods.Payload)
	} else {
		result["goods"] = goods.Payload
	}
	return result, err
}

// shut closes the channels, the last opened first: a meter settles over its
// channel.
func (u *ui) shut(ctx context.Context, s *station, p payment) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	for i := len(s.Rails()) - 1; i >= 0; i-- {
		if c, ok := rail.As[rail.Closer](s.Rails()[i]); ok {
			if err := c.Shut(ctx, false); err != nil {
				return fmt.Errorf("close %s: %w", s.Rails()[i], err)
			}
		}
	}
	return u.show(map[string]any{"closed": true}, func(w io.Writer) { fmt.Fprintln(w, "the channel is closed, and its closing transaction mined") })
}

// walletAddress is where a machine's money on chain goes, on regtest.
func walletAddress(key keys.Public) string {
	a, err := address.NewAddressWitnessPubKeyHash(tx.Hash160(key[:]), &chaincfg.RegressionNetParams)
	if err != nil {
		return ""
	}
	return a.EncodeAddress()
}

func parseAddress(text string) ([]byte, error) {
	a, err := address.DecodeAddress(text, &chaincfg.RegressionNetParams)
	if err != nil {
		return nil, fmt.Errorf("address %.80q: %w", text, err)
	}
	return txscript.PayToAddrScript(a)
}

func chargeCommand(u *ui) *cobra.Command {
	var path, amount, what string
	var wait time.Duration
	c := &cobra.Command{
		Use: "charge", Short: "Make a bill, and wait until it is paid", Args: noArgs,
		Long:    "Asks the machine that coinop serve runs from the same config file for a bill.",
		Example: "  coinop charge -c seller.toml --amount 5sat --for tea --wait 1m",
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := readConfig(path)
			if err != nil {
				return err
			}
			return u.charge(cmd.Context(), config, amount, what, wait)
		},
	}
	configFlag(c, &path)
	c.Flags().StringVar(&amount, "amount", "", "how much, such as 5sat")
	c.Flags().StringVar(&what, "for", "", "what for")
	c.Flags().DurationVar(&wait, "wait", 0, "wait so long for the payment")
	return c
}

func (u *ui) charge(ctx context.Context, config Config, amount, what string, wait time.Duration) error {
	r, err := config.running()
	if err != nil {
		return err
	}
	due, err := money.ParseAmount(amount)
	if err != nil {
		return usage{err}
	}
	var bill struct {
		Order  money.OrderID `json:"order"`
		Amount uint64        `json:"amount_msat"`
		Pay    []string      `json:"pay"`
	}
	if err := r.call(ctx, "POST", "/v1/bills", map[string]any{"amount_msat": due, "for": what}, &bill); err != nil {
		return err
	}
	if err := u.show(bill, func(w io.Writer) { fmt.Fprintln(w, strings.Join(bill.Pay, "\n")) }); err != nil || wait == 0 {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for {
		var o struct {
			Paid uint64 `json:"paid_msat"`
		}
		if err := r.call(ctx, "GET", "/v1/orders/"+bill.Order.String(), nil, &o); err != nil {
			return err
		}
		if o.Paid >= bill.Amount {
			return u.show(map[string]any{"order": bill.Order, "paid_msat": o.Paid}, func(w io.Writer) { fmt.Fprintln(w, "paid") })
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return exit{fmt.Errorf("order %v is not paid after %v", bill.Order, wait), exitFailed}
		}
	}
}
