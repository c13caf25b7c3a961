package wallet_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/bitcoin/mnemonic"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/consent"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
	"coinop.dev/core/wallet"
	"coinop.dev/internal/script"
	"coinop.dev/sim"
	"coinop.dev/world/drive"
)

func TestScripts(t *testing.T) {
	script.Run(t, "testdata/script/*.txt", func(t *testing.T) func(string) string { return newTalk(t).obey })
}

// talk is a gateway with a wallet, devices that hold the keys, and a chain.
//
//	wallet [depth=2] [joint] [gather=5] [bump=2] ...  the gateway's wallet begins
//	open alice 84 [perpayment=5000] [quiet] ...       a device's account, by the operator
//	claim alice 84 code...                            the device shows a code
//	invite code alice                                 the operator makes one
//	fund alice 100000                                 a coin to a fresh address, in the mempool
//	pay alice o1 5000 [to bob]                        the gateway pays an order
//	order alice o1 5000                               the device asks for it itself
//	bill alice b1 5000 [until 60] | send b1 5000      a bill, and somebody's coin for it
//	offline alice | online alice                      its link
//	lose alice                                        the next message to it is lost
//	mine [n] | stuck | reorg n | mempool              the chain; stuck mines empty blocks
//	steal alice                                       a coin of its own is spent elsewhere
//	bump o1 | speed alice                             more fee; a child for a coin of alice's
//	revoke alice | crash | doom | wait 5
//	state | chain | history alice | verify o1 | again o1
type talk struct {
	t       *testing.T
	out     strings.Builder
	now     step.Time
	chain   *chain
	options wallet.Options
	disk    *sim.Disk
	core    *wallet.Wallet
	devices map[string]*device
	names   []string
	watched []watch.Script
	scripts map[string]bool
	points  map[wire.OutPoint]bool
	wake    step.Time
	doomed  bool
	inbox   []flight
	proofs  map[money.OrderID][]byte
	pays    map[money.OrderID]wallet.Pay
	quiet   bool
	spent   time.Duration // in the wallet's steps, and in the signers'
	signing time.Duration
	crashAt int  // of the steps that write; 0: never
	after   bool // the crash comes right after the write
	writes  int
	told    map[money.OrderID]int
	failed  map[money.OrderID]bool
	bills   map[money.OrderID][]byte
	payee   uint32
}

type device struct {
	name    string
	seed    mnemonic.Seed
	account descriptor.Account
	id      keys.Secret
	signer  *consent.Signer
	policy  consent.Policy
	disk    *sim.Disk
	online  bool
	lose    int
	fresh   wallet.Address
}

type flight struct {
	from, to string
	msg      any
}

func secret(name string) keys.Secret {
	k, err := keys.NewSecret(bytes.NewReader(bytes.Repeat([]byte(name), 32)))
	if err != nil {
		panic(err)
	}
	return k
}

func seedOf(name string) mnemonic.Seed {
	phrase, err := mnemonic.New(bytes.Repeat([]byte(name), 16)[:16])
	if err == nil {
		var s mnemonic.Seed
		if s, err = mnemonic.ToSeed(phrase, ""); err == nil {
			return s
		}
	}
	panic(err)
}

func newTalk(t *testing.T) *talk {
	k := &talk{
		t: t, now: 1_500_000_000_000, chain: newChain(), disk: &sim.Disk{}, devices: map[string]*device{},
		scripts: map[string]bool{}, points: map[wire.OutPoint]bool{}, proofs: map[money.OrderID][]byte{},
		pays: map[money.OrderID]wallet.Pay{}, told: map[money.OrderID]int{}, failed: map[money.OrderID]bool{}, bills: map[money.OrderID][]byte{},
	}
	k.options = wallet.Options{Params: regtest, Depth: 1, Gap: 4}
	for range 3 {
		k.chain.mine(nil)
	}
	return k
}

func (k *talk) obey(command string) string {
	k.out.Reset()
	for line := range strings.SplitSeq(command, "\n") {
		words := strings.Fields(line)
		do := commands[words[0]]
		if do == nil {
			k.t.Fatalf("no command is called %q", words[0])
		}
		k.now += 10
		do(k, words[1:])
		k.run()
	}
	return k.out.String()
}

var commands map[string]func(*talk, []string)

func init() {
	commands = map[string]func(*talk, []string){
		"wallet": (*talk).wallet, "open": (*talk).open, "claim": (*talk).claim, "fund": (*talk).fund, "pay": (*talk).pay,
		"order": (*talk).order, "bill": (*talk).bill, "send": (*talk).sendTo, "mine": (*talk).mineSome, "reorg": (*talk).reorg,
		"online": (*talk).online, "offline": (*talk).offline, "wait": (*talk).wait, "state": (*talk).state, "steal": (*talk).steal,
		"stuck":   func(k *talk, _ []string) { k.chain.mine(func(*wire.MsgTx) bool { return false }); k.report() },
		"lose":    func(k *talk, w []string) { k.devices[w[0]].lose++ },
		"mempool": (*talk).mempool, "chain": (*talk).showChain, "history": (*talk).history, "verify": (*talk).verify,
		"invite": func(k *talk, w []string) {
			k.tell(wallet.Invite{Ask: "invite", Code: w[0], Account: w[1], Expires: k.now + step.Hour})
		},
		"again":  func(k *talk, w []string) { k.tell(k.pays[orderID(w[0])]) },
		"bump":   func(k *talk, w []string) { k.tell(wallet.Bump{Ask: "bump", Order: orderID(w[0])}) },
		"speed":  (*talk).speed,
		"revoke": func(k *talk, w []string) { k.tell(wallet.Revoke{Ask: "revoke", Account: w[0]}) },
		"crash":  func(k *talk, _ []string) { k.start() },
		"doom":   func(k *talk, _ []string) { k.doomed = true },
	}
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		panic(err)
	}
	return n
}

func orderID(name string) (id money.OrderID) {
	copy(id[:], name)
	return id
}

func orderName(id money.OrderID) string { return strings.TrimRight(string(id[:]), "\x00") }

func (k *talk) say(format string, args ...any) {
	if !k.quiet {
		fmt.Fprintf(&k.out, format+"\n", args...)
	}
}

func (k *talk) wallet(w []string) {
	for _, word := range w {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "depth":
			k.options.Depth = int32(number(value))
		case "joint":
			k.options.Joint = true
		case "gather":
			k.options.Gather = step.Time(number(value)) * step.Second
		case "bump":
			k.options.BumpAfter = int32(number(value))
		case "bumps":
			k.options.MaxBumps = number(value)
		case "maxfee":
			k.options.MaxFee = money.Amount(number(value)) * money.Sat
		case "gap":
			k.options.Gap = uint32(number(value))
		case "lock":
			k.options.LockTime = true
		default:
			k.t.Fatalf("no option is called %q", word)
		}
	}
	k.start()
}

func (k *talk) device(name, purpose string, options []string) *device {
	d := &device{name: name, seed: seedOf(name), id: secret(name), disk: &sim.Disk{}, online: true}
	d.policy = consent.Policy{NeedProof: true, MinDepth: 1, Joint: true}
	for _, word := range options {
		option, value, _ := strings.Cut(word, "=")
		switch option {
		case "perpayment":
			d.policy.PerPayment = money.Amount(number(value)) * money.Sat
		case "perday":
			d.policy.PerDay = money.Amount(number(value)) * money.Sat
		case "feemax":
			d.policy.FeeMax = money.Amount(number(value)) * money.Sat
		case "solo":
			d.policy.Joint = false
		case "noproof":
			d.policy.NeedProof = false
		case "offline":
			d.online = false
		default:
			k.t.Fatalf("no policy is called %q", word)
		}
	}
	var err error
	if d.account, err = descriptor.NewAccount(d.seed, descriptor.Purpose(number(purpose)), 1, 0, regtest); err != nil {
		k.t.Fatal(err)
	}
	d.signer, err = consent.New(consent.Config{Params: regtest, Accounts: []descriptor.Account{d.account}, Identity: d.id, Wallet: "peer/gateway", Policy: d.policy})
	if err != nil {
		k.t.Fatal(err)
	}
	k.devices[name] = d
	k.names = append(k.names, name)
	return d
}

func (d *device) peer() string { return d.id.Public().PeerName() }

func (k *talk) byPeer(peer string) *device {
	for _, d := range k.devices {
		if d.peer() == peer {
			return d
		}
	}
	return nil
}

func (k *talk) open(w []string) {
	d := k.device(w[0], w[1], w[2:])
	k.tell(wallet.Open{Ask: "open", Account: d.name, Descriptor: d.account.Descriptor().String(), Signer: d.peer(), Since: 1})
	k.link(d)
}

func (k *talk) link(d *device) {
	if d.online {
		k.tell(step.Linked{Peer: d.peer(), Link: 1})
		k.step(d, step.Linked{Peer: "peer/gateway", Link: 1})
	}
}

func (k *talk) claim(w []string) {
	d := k.devices[w[0]]
	if d == nil {
		d = k.device(w[0], w[1], w[3:])
		k.link(d)
	}
	k.tell(step.Recv{From: d.peer(), Msg: wallet.Claim{Code: w[2], Descriptor: d.account.Descriptor().String(), Since: 1}})
}

func (k *talk) online(w []string) {
	d := k.devices[w[0]]
	d.online = true
	k.link(d)
}

func (k *talk) offline(w []string) {
	d := k.devices[w[0]]
	d.online = false
	k.tell(step.Unlinked{Peer: d.peer(), Link: 1})
}

// fresh asks for an address without a word.
func (k *talk) fresh(name string) []byte {
	d := k.devices[name]
	d.fresh = wallet.Address{}
	was := k.quiet
	k.quiet = true
	k.tell(wallet.Fresh{Ask: "fresh/" + name, Account: name})
	k.quiet = was
	if d.fresh.Script == nil {
		k.t.Fatalf("no address for %s", name)
	}
	return d.fresh.Script
}

func (k *talk) fund(w []string) {
	k.chain.mint(k.fresh(w[0]), int64(number(w[1])))
	k.report()
}

// to is a script of nobody here, a new one each time unless it is named.
func (k *talk) to(w []string) []byte {
	if len(w) == 2 && w[0] == "to" {
		if k.devices[w[1]] != nil {
			return k.fresh(w[1])
		}
		return tx.P2WPKH(secret(w[1]).Public())
	}
	k.payee++
	return tx.P2WPKH(secret(fmt.Sprint("shop", k.payee)).Public())
}

func (k *talk) pay(w []string) {
	p := wallet.Pay{Order: orderID(w[1]), Account: w[0], Script: k.to(w[3:]), Amount: money.Amount(number(w[2])) * money.Sat}
	k.pays[p.Order] = p
	k.expect(w[0], p)
	k.tell(p)
}

func (k *talk) expect(name string, p wallet.Pay) {
	if d := k.devices[name]; d != nil {
		k.step(d, consent.Expect{Order: p.Order, Script: p.Script, Amount: p.Amount})
	}
}

func (k *talk) order(w []string) {
	d := k.devices[w[0]]
	p := wallet.Pay{Order: orderID(w[1]), Account: w[0], Script: k.to(w[3:]), Amount: money.Amount(number(w[2])) * money.Sat}
	if known, ok := k.pays[p.Order]; ok {
		p.Script = known.Script
	}
	k.pays[p.Order] = p
	k.expect(w[0], p)
	k.tell(step.Recv{From: d.peer(), Msg: wallet.Order{ID: p.Order, Script: p.Script, Amount: p.Amount}})
}

func (k *talk) bill(w []string) {
	v := wallet.Invoice{Order: orderID(w[1]), Account: w[0], Amount: money.Amount(number(w[2])) * money.Sat}
	if len(w) > 3 {
		v.Expires = k.now + step.Time(number(w[4]))*step.Second
	}
	k.tell(v)
}

func (k *talk) sendTo(w []string) {
	k.chain.mint(k.bills[orderID(w[0])], int64(number(w[1])))
	k.report()
}

func (k *talk) mineSome(w []string) {
	n := 1
	if len(w) > 0 {
		n = number(w[0])
	}
	for range n {
		k.chain.mine(nil)
		k.report()
		k.run()
	}
}

func (k *talk) reorg(w []string) { k.chain.reorg(number(w[0])); k.report() }

// steal has a device's own coin mined elsewhere: its key is in two places.
func (k *talk) steal(w []string) {
	d := k.devices[w[0]]
	for i := range uint32(50) {
		s, err := d.account.Descriptor().At(0, i)
		if err != nil {
			k.t.Fatal(err)
		}
		for _, b := range k.chain.blocks {
			for _, t := range b.txs {
				for n, out := range t.TxOut {
					p := wire.OutPoint{Hash: t.TxHash(), Index: uint32(n)}
					if !bytes.Equal(out.PkScript, s.Script) || slices.ContainsFunc(k.chain.mined(), func(t *wire.MsgTx) bool { return spends(t, p) }) {
						continue
					}
					key, err := d.account.SigningKey(0, i)
					if err != nil {
						k.t.Fatal(err)
					}
					theft, _, err := tx.Pay(key, []tx.Coin{{Point: p, Value: out.Value}}, []*wire.TxOut{wire.NewTxOut(out.Value-1000, tx.P2WPKH(secret("thief").Public()))}, tx.MinFeeRate)
					if err != nil {
						k.t.Fatal(err)
					}
					k.chain.mempool = slices.DeleteFunc(k.chain.mempool, func(t *wire.MsgTx) bool { return spends(t, p) })
					k.chain.mempool = append(k.chain.mempool, theft)
					return
				}
			}
		}
	}
	k.t.Fatal("nothing to steal")
}

func (k *talk) speed(w []string) {
	for _, t := range k.chain.mempool {
		for n, out := range t.TxOut {
			for i := range uint32(50) {
				if s, err := k.devices[w[0]].account.Descriptor().At(0, i); err == nil && bytes.Equal(s.Script, out.PkScript) {
					k.tell(wallet.Bump{Ask: "speed", Point: wire.OutPoint{Hash: t.TxHash(), Index: uint32(n)}, Rate: 5000})
					return
				}
			}
		}
	}
	k.t.Fatal("nothing to speed up")
}

func (k *talk) wait(w []string) {
	k.now += step.Time(number(w[0])) * step.Second
	for k.wake > 0 && k.wake <= k.now {
		k.wake = 0
		k.tell(step.Rang{ID: "wallet"})
		k.run()
	}
}

func (k *talk) state([]string) {
	s := k.core.Summary()
	for _, a := range s.Accounts {
		k.say("%s: confirmed %d, waiting %d, reserved %d sat; %d orders, %d transactions", a.Account, a.Confirmed, a.Waiting, a.Reserved, a.Orders, a.Sending)
	}
	for _, b := range s.Sending {
		k.say("transaction %d of %s: %s, %d orders, fee %d sat, depth %d, versions %d", b.N, strings.Join(b.Accounts, " "), b.State, b.Orders, b.Fee, b.Depth, b.Versions)
	}
}

func (k *talk) mempool([]string) {
	for _, t := range k.chain.mempool {
		fee, _ := k.chain.fee(t)
		k.say("%s, fee %d sat", k.describeTx(t), fee)
	}
}

// showChain says what blocks have paid for each order.
func (k *talk) showChain([]string) {
	for _, id := range slices.SortedFunc(maps.Keys(k.pays), func(a, b money.OrderID) int { return bytes.Compare(a[:], b[:]) }) {
		sum, n := k.chain.paid(k.pays[id].Script)
		k.say("%s: %d sat in %d outputs", orderName(id), sum, n)
	}
}

func (k *talk) history(w []string) {
	for _, e := range k.core.History(w[0]) {
		k.say("block %d: %+d sat %s", e.Height, e.Sats, orderName(e.Order))
	}
}

func (k *talk) verify(w []string) {
	id := orderID(w[0])
	p := k.pays[id]
	got, err := wallet.Verify(receipt.Entry{Order: id, Amount: p.Amount}, p.Script, k.options.Depth, regtest, k.proofs[id])
	if err != nil {
		k.say("%v", err)
		return
	}
	k.say("output %d, block %d with %d headers, work %v", got.Output, got.Height, got.Depth, got.Work)
}

var _ drive.Core = (*wallet.Wallet)(nil)
