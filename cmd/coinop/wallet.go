//go:build !omit_bitcoin

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/bitcoin/payuri"
	"coinop.dev/core/money"
	"coinop.dev/core/wallet"
	"coinop.dev/purse"
	"coinop.dev/rail"
	"coinop.dev/world/chain"
	"coinop.dev/world/drive"
)

const (
	// walletScheme is the rail that the wallet is of.
	walletScheme = "bitcoin"
	// walletAccount is the account of a machine that names none.
	walletAccount = "main"
	// walletPatience is how long a command looks through the chain.
	walletPatience = 10 * time.Minute
	// birthdayPatience is how long a new wallet waits for the height of the chain.
	birthdayPatience = 30 * time.Second
)

func walletCommand(u *ui) *cobra.Command {
	var path string
	c := &cobra.Command{
		Use: "wallet", Short: "The machine's money on the chain: make or restore a wallet, receive, send, look",
		Long: "The wallet of a config file is the one that its bitcoin: rails pay from and are paid to. Each command opens it for as\n" +
			"long as it takes, so coinop serve must not run on the same data.\n\n" +
			"The seed: coinop wallet create or restore stores it at its home and writes <data>/wallet.toml, which names the home,\n" +
			"the kind of account and its first block. From then on every bitcoin: rail of the config that has no seed= of its own\n" +
			"uses it. Without that file the seed comes of the machine's key, and there are no words for it.",
	}
	c.PersistentFlags().StringVarP(&path, "config", "c", "coinop.toml", "the machine's TOML file")
	read := func() (Config, error) {
		config, err := readConfig(path)
		if err == nil && config.Chain == "" {
			err = usage{fmt.Errorf("config %s names no chain; write for example chain = \"p2p://127.0.0.1:18444\"", path)}
		}
		return config, err
	}
	c.AddCommand(walletCreateCommand(u, read), walletRestoreCommand(u, read), walletBalanceCommand(u, read),
		walletReceiveCommand(u, read), walletSendCommand(u, read), walletHistoryCommand(u, read))
	return c
}

type configReader func() (Config, error)

// flags are those of create and restore.
func (n *newWallet) flags(c *cobra.Command, since, timeout string) {
	f := c.Flags()
	f.StringVar(&n.seed, "seed", "", "the home of the seed, as in coinop key --help (default file:<data>/seed, encrypted)")
	f.IntVar(&n.bip, "bip", 84, "the kind of account: 84 (P2WPKH), 86 (taproot), 49 or 44")
	f.Int32Var(&n.since, "since", -1, since)
	f.DurationVar(&n.timeout, "timeout", n.timeout, timeout)
}

func (n *newWallet) check() error {
	switch {
	case n.bip != 44 && n.bip != 49 && n.bip != 84 && n.bip != 86:
		return usage{fmt.Errorf("--bip %d is not a kind of account: 44, 49, 84 and 86 are", n.bip)}
	case n.words != 12 && n.words != 24:
		return usage{fmt.Errorf("--words %d: there are wallets of 12 and of 24 words", n.words)}
	case n.since < -1:
		return usage{fmt.Errorf("--since %d is not the height of a block", n.since)}
	}
	return nil
}

func walletCreateCommand(u *ui, read configReader) *cobra.Command {
	n := newWallet{timeout: birthdayPatience}
	c := &cobra.Command{
		Use: "create", Short: "Make a wallet, and print its words, once", Args: noArgs,
		Long: "Draws a seed, prints it as BIP 39 words, once, and stores it encrypted. The passphrase is in COINOP_PASSPHRASE, in the\n" +
			"file that COINOP_PASSPHRASE_FILE names, or asked for; it protects the file, and is no part of the words. A file that\n" +
			"is not encrypted has to be asked for: --seed 'file:/path?plain=1'.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := read()
			if err == nil {
				err = n.check()
			}
			if err != nil {
				return err
			}
			return u.createWallet(cmd.Context(), config, n)
		},
	}
	n.flags(c, "no block below it pays the wallet (default a few below the tip)", "wait so long for the height of the chain")
	c.Flags().IntVar(&n.words, "words", 12, "12 or 24")
	return c
}

func walletRestoreCommand(u *ui, read configReader) *cobra.Command {
	n := newWallet{words: 12, timeout: walletPatience}
	c := &cobra.Command{
		Use: "restore", Short: "Get a wallet back from its words, read from standard input", Args: noArgs,
		Long: "Reads BIP 39 words of any wallet (English, without a BIP 39 passphrase), stores the seed as create does, and looks\n" +
			"through the chain for what the wallet has: the unspent coins of addresses that are not more than 1000 after one that\n" +
			"has some. An address that was paid and emptied again does not show, and may be given out again.\n" +
			"Words never belong on the command line, where others see them.",
		Example: "  coinop wallet restore -c new.toml --since 800000",
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := read()
			if err == nil {
				err = n.check()
			}
			if err != nil {
				return err
			}
			return u.restoreWallet(cmd.Context(), config, n)
		},
	}
	n.flags(c, "no block below it paid the wallet (default 0: look through all)", "give up looking after this long; coinop wallet balance goes on")
	return c
}

func timeoutFlag(c *cobra.Command, timeout *time.Duration) {
	c.Flags().DurationVar(timeout, "timeout", walletPatience, "give up looking through the chain after this long")
}

func walletBalanceCommand(u *ui, read configReader) *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use: "balance", Short: "Look through the chain, and print what the wallet has", Args: noArgs,
		Long: "Confirmed is in blocks; waiting is on its way in, or our own change; reserved is in payments of ours on their way.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := read()
			if err != nil {
				return err
			}
			return u.balance(cmd.Context(), config, timeout, func(wallet.Summary) {})
		},
	}
	timeoutFlag(c, &timeout)
	return c
}

func walletReceiveCommand(u *ui, read configReader) *cobra.Command {
	var amount, label string
	var last bool
	var timeout time.Duration
	c := &cobra.Command{
		Use: "receive", Short: "Print a fresh address as a BIP 21 URI and a QR code", Args: noArgs,
		Example: "  coinop wallet receive -c seller.toml --amount 0.001btc --label 'pump 7'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := read()
			if err != nil {
				return err
			}
			ask := payuri.URI{Label: label}
			if amount != "" {
				if ask.Amount, err = money.ParseAmount(amount); err != nil {
					return usage{err}
				}
			}
			return u.receive(cmd.Context(), config, ask, last, timeout)
		},
	}
	c.Flags().StringVar(&amount, "amount", "", "how much is asked for, such as 20000sat")
	c.Flags().StringVar(&label, "label", "", "who is paid, for the payer to read")
	c.Flags().BoolVar(&last, "last", false, "the address that was given out last, not a fresh one")
	timeoutFlag(c, &timeout)
	return c
}

func walletHistoryCommand(u *ui, read configReader) *cobra.Command {
	var timeout time.Duration
	c := &cobra.Command{
		Use: "history", Short: "Look through the chain, and list what came and went", Args: noArgs,
		Long: "Lists what is in blocks, the oldest first. In a restored wallet it begins with the coins that were found unspent.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := read()
			if err != nil {
				return err
			}
			return u.history(cmd.Context(), config, timeout)
		},
	}
	timeoutFlag(c, &timeout)
	return c
}

// A session is a machine that runs for one command, and its wallet.
type session struct {
	*station
	u       *ui
	rail    *rail.Rail
	account string
}

// walletRail is the rail of the config's own wallet with some settings of this
// command's.
func (c *Config) walletRail(set url.Values) (uri, account string, err error) {
	q := url.Values{}
	for _, text := range c.Rails {
		u, err := rail.Default.Parse(text)
		if err != nil || u.Scheme != walletScheme {
			continue
		}
		if u.User != nil {
			return "", "", usage{errors.New("the config's wallet is at a gateway; ask coinop there")}
		}
		q = u.Query()
		q.Del("host")
		break
	}
	for key, values := range set {
		q[key] = values
	}
	return walletScheme + "://self?" + q.Encode(), firstOf(q.Get("account"), walletAccount), nil
}

// openWallet starts the config's machine with its wallet as its only rail.
func (u *ui) openWallet(ctx context.Context, c Config, set url.Values) (*session, error) {
	uri, account, err := c.walletRail(set)
	if err != nil {
		return nil, err
	}
	for _, home := range c.homes() {
		if err := u.passphrase(home, false); err != nil {
			return nil, err
		}
	}
	s, err := openStation(context.WithoutCancel(ctx), c, nil, u.log(c.Name))
	if err != nil {
		return nil, stopFirst(err)
	}
	r, err := s.OpenRail(ctx, uri)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return &session{station: s, u: u, rail: r, account: account}, nil
}

// homes are the secrets that a wallet command opens.
func (c *Config) homes() []string {
	homes := []string{c.Key}
	if k, found, err := c.keeping(); err == nil && found {
		homes = append(homes, k.Seed)
	}
	return homes
}

// look runs f on the wallet.
func (s *session) look(ctx context.Context, f func(*wallet.Wallet)) error {
	there := false
	err := s.Engine.Host.Do(ctx, func(m *drive.Machine) {
		if w, ok := m.Core(wallet.Name).(*wallet.Wallet); ok {
			there = true
			f(w)
		}
	})
	if err == nil && !there {
		err = errors.New("the machine runs no wallet of its own")
	}
	return err
}

// view finds the session's account in a summary.
func (s *session) view(sum wallet.Summary) (v wallet.View) {
	for _, a := range sum.Accounts {
		if a.Account == s.account {
			v = a
		}
	}
	return v
}

// lookPause is how often a command looks whether what it waits for is there.
const lookPause = 50 * time.Millisecond

// ready waits until the chain has been looked through for all scripts of the wallet.
func (s *session) ready(ctx context.Context) (sum wallet.Summary, err error) {
	begin := time.Now()
	defer s.clear()
	for seen := false; ; {
		height, _, trouble := s.station.Chain.Tip(ctx)
		seen = seen || trouble == nil
		if err := s.look(ctx, func(w *wallet.Wallet) { sum = w.Summary() }); err != nil && ctx.Err() == nil {
			return sum, err
		}
		done := seen && ctx.Err() == nil
		for _, a := range sum.Accounts {
			done = done && a.Synced
		}
		if done {
			return sum, s.station.Config.restored()
		}
		s.say("the chain is looked through: block %d, %v so far", max(height, sum.Tip), time.Since(begin).Round(time.Second))
		select {
		case <-time.After(lookPause):
		case <-s.Engine.Stopped():
			return sum, s.Engine.Err()
		case <-ctx.Done():
			if trouble == nil {
				trouble = chain.ErrSyncing
			}
			return sum, exit{fmt.Errorf("chain %v was not looked through in %v: %w; try again with a longer --timeout", redacted(s.station.Config.Chain), time.Since(begin).Round(time.Second), trouble), exitConnect}
		}
	}
}

// say shows a person how it goes; clear takes that away.
func (s *session) say(format string, args ...any) {
	if terminal(s.u.err) {
		s.u.live(fmt.Sprintf(format, args...))
	}
}

func (s *session) clear() {
	if terminal(s.u.err) {
		s.u.live("")
	}
}

// holdings is a wallet's summary with the sum of its accounts.
type holdings struct {
	wallet.Summary
	Total wallet.Balance `json:"total"`
}

func (u *ui) balance(ctx context.Context, c Config, timeout time.Duration, then func(wallet.Summary)) error {
	s, err := u.openWallet(ctx, c, nil)
	if err != nil {
		return err
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	h := holdings{}
	if h.Summary, err = s.ready(ctx); err != nil {
		return err
	}
	for _, a := range h.Accounts {
		h.Total.Confirmed += a.Confirmed
		h.Total.Waiting += a.Waiting
		h.Total.Reserved += a.Reserved
	}
	if err := u.show(h, h.text); err != nil {
		return err
	}
	then(h.Summary)
	return nil
}

func (h holdings) text(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "account\tconfirmed\twaiting\treserved\t")
	row := func(name string, b wallet.Balance) {
		fmt.Fprintf(t, "%s\t%d sat\t%d sat\t%d sat\t\n", name, b.Confirmed, b.Waiting, b.Reserved)
	}
	for _, a := range h.Accounts {
		row(a.Account, a.Balance)
	}
	if len(h.Accounts) > 1 {
		row("all", h.Total)
	}
	t.Flush()
	for _, p := range h.Sending {
		fmt.Fprintf(w, "%s is on its way (%s, fee %d sat)\n", p.TxID, p.State, p.Fee)
	}
}

func (u *ui) receive(ctx context.Context, c Config, ask payuri.URI, last bool, timeout time.Duration) error {
	s, err := u.openWallet(ctx, c, nil)
	if err != nil {
		return err
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	at, err := s.address(ctx, last)
	if err != nil {
		return err
	}
	ask.Address = at.Text
	uri, err := ask.Build()
	if err != nil {
		return usage{err}
	}
	v := map[string]any{"uri": uri, "address": at.Text, "account": at.Account, "index": at.Index}
	return u.show(v, func(w io.Writer) { fmt.Fprintf(w, "%s\n%s%s\n", uri, qrCode(uri), at.Text) })
}

// address gets a fresh one, or the last that was given out.
func (s *session) address(ctx context.Context, last bool) (at wallet.Address, err error) {
	if !last {
		// Only the chain can tell that nobody has paid it yet.
		if _, err := s.ready(ctx); err != nil {
			return at, err
		}
		ask := "cli/" + purse.NewOrderID().String()
		v, err := s.Engine.Host.Ask(ctx, wallet.Name, ask, wallet.Fresh{Ask: ask, Account: s.account})
		if err != nil {
			return at, fmt.Errorf("%w; --last shows the last one again", err)
		}
		return v.(wallet.Address), nil
	}
	var sum wallet.Summary
	if err := s.look(ctx, func(w *wallet.Wallet) { sum = w.Summary() }); err != nil {
		return at, err
	}
	v := s.view(sum)
	if v.Next == 0 {
		return at, exit{errors.New("no address was given out yet; leave out --last"), exitNotFound}
	}
	rules, err := s.rules()
	if err != nil {
		return at, err
	}
	d, err := descriptor.Parse(v.Descriptor, rules)
	if err != nil {
		return at, err
	}
	script, err := d.At(0, v.Next-1)
	if err != nil {
		return at, err
	}
	at = wallet.Address{Account: s.account, Index: v.Next - 1, Script: script.Script}
	at.Text, err = descriptor.Address(script.Script, rules)
	return at, err
}

func (u *ui) history(ctx context.Context, c Config, timeout time.Duration) error {
	s, err := u.openWallet(ctx, c, nil)
	if err != nil {
		return err
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if _, err := s.ready(ctx); err != nil {
		return err
	}
	entries := []wallet.Entry{}
	if err := s.look(ctx, func(w *wallet.Wallet) { entries = append(entries, w.History(s.account)...) }); err != nil {
		return err
	}
	return u.show(map[string]any{"account": s.account, "history": entries}, func(w io.Writer) {
		for _, e := range entries {
			order := ""
			if e.Order != (money.OrderID{}) {
				order = "order " + e.Order.String()
			}
			txid, _, _ := strings.Cut(e.Point, ":")
			fmt.Fprintf(w, "%8d %+14d sat  %s  %s\n", e.Height, e.Sats, txid, order)
		}
	})
}
