//go:build !omit_bitcoin

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/spf13/cobra"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/bitcoin/payuri"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/money"
	"coinop.dev/core/wallet"
	"coinop.dev/purse"
	"coinop.dev/world/chain"
)

// payout is what send was asked for.
type payout struct {
	to, amount string
	order      string
	rate       float64 // sat/vB; 0: the rail's
	yes        bool
	wait       int32 // confirmations; 0: a node has taken it
	proven     bool  // the rail's receipt is there by then
	timeout    time.Duration
}

func walletSendCommand(u *ui, read configReader) *cobra.Command {
	p := payout{}
	c := &cobra.Command{
		Use: "send <address or bitcoin: URI> [amount]", Short: "Pay an address from the wallet",
		Long: "Pays an address, and is done when a node has taken the transaction, or when --wait blocks confirm it. The owner's own\n" +
			"payments pass the purse's [limits] by, but not the bitcoin: rail's (max_fee=, per_payment=, per_day=).\n" +
			"With --order an interrupted payment can be repeated: the same order is paid once. Exit code 7 says that the payment\n" +
			"is on its way and that its end is not known yet.",
		Example: "  coinop wallet send -c seller.toml bc1q… 0.001btc --fee-rate 2 --order 0123456789abcdef0123456789abcdef",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return usage{errors.New("wallet send takes an address or a bitcoin: URI, and an amount such as 20000sat unless the URI has one")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			config, err := read()
			if err != nil {
				return err
			}
			p.to = args[0]
			if len(args) == 2 {
				p.amount = args[1]
			}
			return u.send(cmd.Context(), config, p)
		},
	}
	f := c.Flags()
	f.StringVar(&p.order, "order", "", "order ID, 32 hex digits: pays once, however often it is asked")
	f.Float64Var(&p.rate, "fee-rate", 0, "sat/vB (default the rail's fee_rate, or 1)")
	f.BoolVar(&p.yes, "yes", false, "do not ask")
	f.Int32Var(&p.wait, "wait", 0, "wait for so many confirmations")
	f.DurationVar(&p.timeout, "timeout", walletPatience, "give up waiting after this long; the order may still be paid")
	return c
}

// parse reads the arguments. The order names a bare address: what else a URI offers
// is for other rails.
func (p *payout) parse() (o money.Order, err error) {
	text := p.to
	if !strings.Contains(text, ":") {
		text = walletScheme + ":" + text
	}
	to, err := payuri.Parse(text)
	if err == nil && to.Address == "" {
		err = errors.New("the URI has no address; coinop pay pays invoices")
	}
	if err != nil {
		return o, usage{err}
	}
	o = money.Order{ID: to.Order, To: walletScheme + ":" + to.Address, Amount: to.Amount}
	if p.amount != "" {
		if o.Amount, err = money.ParseAmount(p.amount); err != nil {
			return o, usage{err}
		}
	}
	switch {
	case p.order != "":
		if err := o.ID.UnmarshalText([]byte(p.order)); err != nil {
			return o, usage{err}
		}
	case o.ID == money.OrderID{}:
		o.ID = purse.NewOrderID()
	}
	switch {
	case o.Amount == 0:
		return o, usage{errors.New("how much? write an amount such as 20000sat behind the address")}
	case to.Amount > 0 && o.Amount < to.Amount:
		return o, usage{fmt.Errorf("the URI asks for %v, which is more than %v", to.Amount, o.Amount)}
	case o.Amount%money.Sat != 0:
		return o, usage{fmt.Errorf("%v is not whole satoshi, and the chain knows no fractions", o.Amount)}
	case p.wait < 0 || p.wait > maxWait:
		return o, usage{fmt.Errorf("--wait is 0 to %d", maxWait)}
	case p.rate < 0 || p.rate > float64(tx.MaxFeeRate)/1000 || p.rate > 0 && p.feeRate() < tx.MinFeeRate:
		return o, usage{fmt.Errorf("--fee-rate is %v to %v sat/vB", float64(tx.MinFeeRate)/1000, float64(tx.MaxFeeRate)/1000)}
	}
	return o, nil
}

// maxWait bounds --wait: as many headers as a receipt has at most are below.
const maxWait = 100

func (p *payout) feeRate() tx.FeeRate { return tx.FeeRate(p.rate * 1000) }

// settings are the rail's for this payment: its fee rate, and no fewer confirmations
// than the config's, or bills would count as paid too early.
func (p *payout) settings(c Config) (url.Values, error) {
	uri, _, err := c.walletRail(nil)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(uri)
	if err != nil {
		return nil, err
	}
	set := url.Values{}
	if p.rate > 0 {
		set.Set("fee_rate", strconv.Itoa(int(p.feeRate())))
	} else {
		rate, _ := strconv.Atoi(u.Query().Get("fee_rate"))
		p.rate = float64(max(tx.FeeRate(rate), tx.MinFeeRate)) / 1000
	}
	depth, err := strconv.Atoi(firstOf(u.Query().Get("depth"), "1"))
	if p.proven = err == nil && int(p.wait) >= depth; p.proven {
		set.Set("depth", strconv.Itoa(int(p.wait)))
	}
	return set, nil
}

// A sending is what send prints.
type sending struct {
	Order         money.OrderID  `json:"order"`
	To            string         `json:"to"`
	Amount        uint64         `json:"amount_msat"`
	TxID          string         `json:"txid"`
	Fee           int64          `json:"fee_sat,omitempty"`
	Confirmations int32          `json:"confirmations"`
	Receipt       *money.Receipt `json:"receipt,omitempty"`
}

func (v sending) text(w io.Writer) {
	fmt.Fprintf(w, "%s\n%d sat to %s, order %v, %d confirmations\n", v.TxID, v.Amount/uint64(money.Sat), v.To, v.Order, v.Confirmations)
}

func (u *ui) send(ctx context.Context, c Config, p payout) error {
	order, err := p.parse()
	if err != nil {
		return err
	}
	if !p.yes && !terminal(u.in) {
		return usage{errors.New("nobody is there to ask; add --yes")}
	}
	set, err := p.settings(c)
	if err != nil {
		return err
	}
	s, err := u.openWallet(ctx, c, set)
	if err != nil {
		return err
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	sum, err := s.ready(ctx)
	if err != nil {
		return err
	}
	known, err := s.check(ctx, order)
	if err != nil {
		return err
	}
	if !known && !p.yes {
		if err := s.confirm(p, order, s.view(sum)); err != nil {
			return err
		}
	}
	v, err := s.deliver(ctx, p, order)
	if err != nil {
		return err
	}
	return u.show(v, v.text)
}

// rules are the chain's that the session sees.
func (s *session) rules() (*chaincfg.Params, error) {
	if r, ok := s.station.Chain.(chain.Ruled); ok {
		return r.Rules(), nil
	}
	return nil, fmt.Errorf("chain %s does not say whose rules it follows", s.Chain)
}

// check reports whether the wallet has the order, and refuses another payment under
// its ID.
func (s *session) check(ctx context.Context, o money.Order) (known bool, err error) {
	invalid := func(format string, args ...any) (bool, error) {
		return known, &money.Error{Kind: money.Invalid, Op: "send", Err: fmt.Errorf(format, args...)}
	}
	have, known, err := s.payment(ctx, o.ID)
	if err != nil {
		return known, err
	}
	rules, err := s.rules()
	if err != nil {
		return known, err
	}
	script, err := descriptor.ParseAddress(strings.TrimPrefix(o.To, walletScheme+":"), rules)
	if err != nil {
		return invalid("%w", err)
	}
	if known && (have.Amount != o.Amount || string(have.Script) != string(script)) {
		return invalid("order %v is one of %v to another address or amount; choose a new ID", o.ID, have.Amount)
	}
	return known, nil
}

func (s *session) payment(ctx context.Context, id money.OrderID) (p wallet.Payment, known bool, err error) {
	err = s.look(ctx, func(w *wallet.Wallet) { p, known = w.Payment(id) })
	return p, known, err
}

// Sizes in virtual bytes, at their largest, of what a payment of ours has at most.
const (
	vsizeFixed = 11 + 2*43 // outputs to 32-byte programs
	vsizeInput = 68        // of P2WPKH; taproot's is smaller
)

// confirm shows what would be paid and asks.
func (s *session) confirm(p payout, o money.Order, v wallet.View) error {
	rate := p.feeRate()
	fmt.Fprintf(s.u.err, "pay      %v to %s\nfee      %d sat if one coin is enough, at most %d sat (%v sat/vB), more only if it has to be bumped\nbalance  %d sat, %d sat on their way\n",
		o.Amount, strings.TrimPrefix(o.To, walletScheme+":"), rate.For(vsizeFixed+vsizeInput), rate.For(vsizeFixed+wallet.MaxInputs*vsizeInput), p.rate, v.Confirmed, v.Waiting)
	fmt.Fprint(s.u.err, "pay? (yes or no) ")
	answer, err := s.u.line()
	if err != nil {
		return err
	}
	if answer = strings.ToLower(answer); answer != "yes" && answer != "y" {
		return exit{errors.New("nothing was paid"), exitRefused}
	}
	return nil
}

// deliver pays, and waits as long as it was asked to.
func (s *session) deliver(ctx context.Context, p payout, o money.Order) (v sending, err error) {
	type result struct {
		money.Receipt
		error
	}
	v = sending{Order: o.ID, To: o.To, Amount: uint64(o.Amount)}
	done := make(chan result, 1)
	go func() {
		r, err := s.rail.Pay(ctx, o)
		done <- result{r, err}
	}()
	defer s.clear()
	for taken := false; ; {
		have, _, err := s.payment(ctx, o.ID)
		if err == nil && have.Tx != nil {
			v.TxID, v.Fee = have.Tx.TxHash().String(), have.Fee
			if v.Confirmations, err = s.depth(ctx, have); err == nil && v.Confirmations == 0 && !taken {
				err = s.station.Chain.Publish(ctx, have.Tx)
				taken = err == nil
			}
			if errors.Is(err, chain.ErrRefused) {
				return v, pending(o, fmt.Errorf("the wallet keeps transaction %s and tries again: %w", v.TxID, err))
			}
			switch {
			case p.wait == 0 && (taken || v.Confirmations > 0),
				p.wait > 0 && v.Confirmations >= p.wait && (v.Receipt != nil || !p.proven):
				return v, nil
			}
			s.say("%s has %d of %d confirmations", v.TxID, v.Confirmations, p.wait)
		}
		select {
		case r := <-done:
			if r.error != nil {
				return v, r.error
			}
			v.Receipt = &r.Receipt
		case <-time.After(lookPause):
		case <-ctx.Done():
			return v, pending(o, fmt.Errorf("transaction %s has %d confirmations: %w", firstOf(v.TxID, "(none yet)"), v.Confirmations, ctx.Err()))
		}
	}
}

// depth is how many blocks confirm a payment.
func (s *session) depth(ctx context.Context, p wallet.Payment) (int32, error) {
	if p.Height == 0 {
		return 0, nil
	}
	tip, _, err := s.station.Chain.Tip(ctx)
	return max(tip-p.Height+1, 0), err
}

func pending(o money.Order, err error) error {
	return &money.Error{Kind: money.Pending, Op: "send order " + o.ID.String(), Err: err}
}
