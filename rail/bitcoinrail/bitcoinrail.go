// Package bitcoinrail pays and is paid by transactions of the Bitcoin chain, from
// the wallet of this machine or of a gateway.
//
//	bitcoin:?host=<host>:<port>                          is paid, and pays, from this machine's wallet
//	bitcoin://self                                       pays from it
//	bitcoin://<gateway's key>@<host>:<port>?claim=<code>  pays from an account at a gateway
//	bitcoin:?host=<host>:<port>&keys=0                   is such a gateway, and has no keys
//
// The wallet (core/wallet) knows public keys only. It proposes transactions to
// the consent signer (core/consent), which has the keys, a policy and a counter,
// and is on this machine in every case: a gateway finds coins, builds, publishes
// and bumps, and cannot move anything by itself.
//
// Two kinds of payment URI can be paid:
//
//	bitcoin:<address>?amount=0.0001                      BIP 21 and 321
//	bitcoin://<machine key>@<host>:<port>                asks that machine for an address
//
// The second is what the earning end gives out: the payee signs which address
// this order is paid to (core/billing), so a receipt proves the order, the amount
// and the payee to anybody. The receipt of a plain address proves that the address
// was paid, not for which order.
package bitcoinrail

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/btcsuite/btcd/chaincfg/v2"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/bitcoin/mnemonic"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/consent"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
	"coinop.dev/core/trade"
	"coinop.dev/core/wallet"
	"coinop.dev/engine"
	"coinop.dev/rail"
	"coinop.dev/world/chain"
	"coinop.dev/world/drive"
	"coinop.dev/world/secret"
)

// Scheme is the rail's word.
const Scheme = "bitcoin"

// Self is the host in the URI of a rail that pays from the machine's own wallet.
const Self = "self"

// Main is the account of a machine that names none.
const Main = "main"

// Driver opens rails on the chain.
type Driver struct{}

// Speaks makes the rail one that pays anybody.
func (Driver) Speaks() []string { return []string{Scheme} }

// Verify makes it a rail.Verifier: it checks a receipt of one confirmation or
// more, by the rules of the chain that the paid address is of.
func (Driver) Verify(r money.Receipt) error {
	paid, err := paidAddress(r)
	if err != nil {
		return err
	}
	for _, p := range []*chaincfg.Params{&chaincfg.MainNetParams, &chaincfg.TestNet3Params, &chaincfg.RegressionNetParams} {
		if _, err := descriptor.ParseAddress(paid, p); err == nil {
			return Verify(r, p, 1)
		}
	}
	return fmt.Errorf("receipt of order %v: %.100q is an address of no chain known here", r.Order, paid)
}

// Open starts the machine's wallet, or its end of a gateway's, if it is not there
// yet.
func (Driver) Open(ctx context.Context, u *url.URL, env rail.Env) (rail.Conn, error) {
	m := env.Machine
	s, err := read(u, m)
	if err != nil {
		return nil, err
	}
	if s.gateway == (keys.Public{}) && m.Chain == nil {
		return nil, errors.New("a wallet needs a view of the chain; configure one")
	}
	if err := start(ctx, m, s); err != nil {
		return nil, err
	}
	c, err := newConn(m, s)
	if err != nil {
		return nil, err
	}
	if s.host == "" {
		return c, nil
	}
	return newEarner(c, s.host), nil
}

// settings are what a URI says.
type settings struct {
	host    string // where payers find this machine; "" if it does not earn
	gateway keys.Public
	addr    string // the gateway's
	claim   string

	params  *chaincfg.Params
	purpose descriptor.Purpose
	seed    string // URI of a key home; "": derived from the machine's key
	keyless bool   // a gateway that has no account of its own
	since   int32
	account string
	policy  consent.Policy
	wallet  wallet.Options
}

// purposes are the kinds of account by BIP number.
var purposes = map[int]descriptor.Purpose{44: descriptor.BIP44, 49: descriptor.BIP49, 84: descriptor.BIP84, 86: descriptor.BIP86}

func read(u *url.URL, m *engine.Machine) (s settings, err error) {
	if u.Path != "" || u.Fragment != "" || u.Opaque != "" {
		return s, errors.New("write bitcoin:?host=<host>:<port> to be paid, bitcoin://self to pay, bitcoin://<key>@<host>:<port> to pay through a gateway")
	}
	switch {
	case u.User != nil:
		if s.gateway, s.addr, err = engine.Address(u.User.Username() + "@" + u.Host); err != nil {
			return s, err
		}
	case u.Host != "" && u.Host != Self:
		return s, fmt.Errorf("bitcoin://%.60s names no gateway: write its key in front, or bitcoin://%s for this machine's wallet", u.Host, Self)
	}
	q := rail.Query(u)
	if u.Host == "" {
		if s.host = q.Text("host", ""); s.host == "" {
			return s, errors.New("to be paid, say where payers find this machine: bitcoin:?host=<host>:<port>")
		}
	}
	if s.params, err = rules(m.Chain, q.Text("net", "")); err != nil {
		return s, err
	}
	kind := q.Int("bip", 84, 44, 86)
	if s.purpose = purposes[kind]; s.purpose == 0 {
		return s, fmt.Errorf("bip=%d is not a kind of account: 44, 49, 84 and 86 are", kind)
	}
	s.account, s.seed, s.claim = q.Text("account", Main), q.Text("seed", ""), q.Text("claim", "")
	s.keyless = q.Int("keys", 1, 0, 1) == 0
	s.since = int32(q.Int("since", 0, 0, 1<<30))
	s.policy = consent.Policy{
		PerPayment: q.Amount("per_payment", 0),
		PerDay:     q.Amount("per_day", 0),
		FeeMax:     q.Amount("max_fee", 0),
		FeeRateMax: tx.FeeRate(q.Int("max_fee_rate", 0, 0, int(tx.MaxFeeRate))),
		NeedProof:  q.Int("proof", boolean(s.addr != ""), 0, 1) == 1,
		OnlyAsked:  true,
		Joint:      s.addr != "",
	}
	s.wallet = wallet.Options{
		Params: s.params, Account: s.account,
		Depth:     int32(q.Int("depth", 1, 0, 100)),
		FeeRate:   tx.FeeRate(q.Int("fee_rate", 0, 0, int(tx.MaxFeeRate))),
		BumpAfter: int32(q.Int("bump_after", 6, 0, 1000)),
		Gather:    step.Time(q.Int("gather", 0, 0, 600_000)),
		Joint:     q.Int("joint", 0, 0, 1) == 1,
		Gap:       uint32(q.Int("gap", gap(s.host != ""), 1, wallet.MaxGap)),
		LockTime:  true,
		Ahead:     uint32(q.Int("ahead", 0, 0, wallet.MaxGap)),
	}
	return s, q.Close()
}

// gap is how many addresses in a row may be out and not paid: more where every
// bill has one.
func gap(earns bool) int {
	if earns {
		return 200
	}
	return 20
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}

// rules are the chain's that the machine sees, unless the URI names another.
func rules(source chain.Source, name string) (*chaincfg.Params, error) {
	if name != "" {
		return chain.Rules(name)
	}
	if s, ok := source.(chain.Ruled); ok {
		return s.Rules(), nil
	}
	return &chaincfg.RegressionNetParams, nil
}

// start puts signer and wallet into the machine unless they are there.
func start(ctx context.Context, m *engine.Machine, s settings) error {
	there := false
	if err := m.Host.Do(ctx, func(machine *drive.Machine) { there = machine.Core(wallet.Name) != nil }); err != nil || there {
		return err
	}
	if s.keyless {
		return startWallet(ctx, m, s)
	}
	account, err := openAccount(m, s)
	if err != nil {
		return err
	}
	config := consent.Config{
		Params: s.params, Accounts: []descriptor.Account{account}, Identity: m.Key,
		Wallet: consent.Wallet, Policy: s.policy,
	}
	if s.addr != "" {
		config.Wallet = s.gateway.PeerName()
	}
	signer, err := consent.Load(m.DB, config, 0)
	if err != nil {
		return err
	}
	if s.addr != "" {
		// The end hears what the signer consents to.
		if err := m.Host.Add(ctx, consent.Core, signer, wallet.Name); err != nil {
			return err
		}
		return startEnd(ctx, m, s, account)
	}
	if err := m.Host.Add(ctx, consent.Core, signer); err != nil {
		return err
	}
	if err := startWallet(ctx, m, s); err != nil {
		return err
	}
	ask := "open/" + s.account
	_, err = m.Host.Ask(ctx, wallet.Name, ask, wallet.Open{
		Ask: ask, Account: s.account, Descriptor: account.Descriptor().String(), Signer: wallet.LocalSigner, Since: s.since,
	})
	return err
}

// startWallet puts the wallet into the machine, which has public keys only.
func startWallet(ctx context.Context, m *engine.Machine, s settings) error {
	// Proofs need headers of blocks to come, and of those that came while the
	// machine was off.
	if tip, _, err := m.Chain.Tip(ctx); err == nil && tip > wallet.KeepHeaders {
		if h, err := chain.HeaderAt(ctx, m.Chain, tip-wallet.KeepHeaders); err == nil {
			s.wallet.Base = h.BlockHash()
		}
	}
	w, err := wallet.Load(m.DB, s.wallet)
	if err != nil {
		return err
	}
	return m.Host.Add(ctx, wallet.Name, w, trade.Seller)
}

// openAccount makes the account's keys from its seed.
func openAccount(m *engine.Machine, s settings) (a descriptor.Account, err error) {
	var seed mnemonic.Seed
	if s.seed == "" {
		seed, err = machineSeed(m.Key)
	} else {
		seed, err = loadSeed(s.seed)
	}
	if err != nil {
		return a, err
	}
	return accountOf(seed, s.purpose, s.params)
}

// machineSeed is the seed of a machine that was given none.
func machineSeed(key keys.Secret) (mnemonic.Seed, error) {
	return mnemonic.SeedFromBytes(key.Derive("wallet/seed").Reveal())
}

func accountOf(seed mnemonic.Seed, purpose descriptor.Purpose, p *chaincfg.Params) (descriptor.Account, error) {
	coin := uint32(1) // BIP 44: every chain whose coins are worth nothing
	if p.Net == chaincfg.MainNetParams.Net {
		coin = 0
	}
	return descriptor.NewAccount(seed, purpose, coin, 0, p)
}

func loadSeed(uri string) (seed mnemonic.Seed, err error) {
	home, err := secret.Default.Open(uri)
	if err != nil {
		return seed, err
	}
	defer home.Close()
	kept, err := home.Load()
	if err != nil {
		return seed, err
	}
	defer kept.Wipe()
	raw := kept.Reveal()
	defer clear(raw)
	return mnemonic.SeedFromBytes(raw)
}

// Fund is the script that money for a machine's own wallet may be sent to before
// there is one: the first address of its account.
func Fund(key keys.Secret, p *chaincfg.Params) ([]byte, error) {
	seed, err := machineSeed(key)
	if err != nil {
		return nil, err
	}
	a, err := accountOf(seed, descriptor.BIP84, p)
	if err != nil {
		return nil, err
	}
	first, err := a.Descriptor().At(0, 0)
	return first.Script, err
}

// sats is an order's amount on the chain, where there are no fractions.
func sats(a money.Amount) (int64, error) {
	if a%money.Sat != 0 {
		return 0, fmt.Errorf("%v is not whole satoshi, and the chain knows no fractions", a)
	}
	return a.Sats(), nil
}

// startEnd puts the device's end of a gateway's wallet into the machine.
func startEnd(ctx context.Context, m *engine.Machine, s settings, account descriptor.Account) error {
	end, err := wallet.LoadEnd(m.DB, wallet.EndOptions{
		Params: s.params, Gateway: s.gateway.PeerName(), Claim: s.claim,
		Descriptor: account.Descriptor().String(), Since: s.since, Depth: s.wallet.Depth,
	})
	if err != nil {
		return err
	}
	if err := m.Host.Add(ctx, wallet.Name, end); err != nil {
		return err
	}
	return m.Connect(ctx, s.addr, s.gateway)
}
