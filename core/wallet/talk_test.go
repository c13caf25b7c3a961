package wallet_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev"
	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/bitcoin/mnemonic"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/consent"
	"coinop.dev/core/keys"
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
	proofs  map[coinop.OrderID][]byte
	pays    map[coinop.OrderID]wallet.Pay
	quiet   bool
	crashAt int  // of the steps that write; 0: never
	after   bool // the crash comes right after the write
	writes  int
	told    map[coinop.OrderID]int
	failed  map[coinop.OrderID]bool
	bills   map[coinop.OrderID][]byte
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
		scripts: map[string]bool{}, points: map[wire.OutPoint]bool{}, proofs: map[coinop.OrderID][]byte{},
		pays: map[coinop.OrderID]wallet.Pay{}, told: map[coinop.OrderID]int{}, failed: map[coinop.OrderID]bool{}, bills: map[coinop.OrderID][]byte{},
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

func orderID(name string) (id coinop.OrderID) {
	copy(id[:], name)
	return id
}

func orderName(id coinop.OrderID) string { return strings.TrimRight(string(id[:]), "\x00") }

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
			k.options.MaxFee = coinop.Amount(number(value)) * coinop.Sat
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
			d.policy.PerPayment = coinop.Amount(number(value)) * coinop.Sat
		case "perday":
			d.policy.PerDay = coinop.Amount(number(value)) * coinop.Sat
		case "feemax":
			d.policy.FeeMax = coinop.Amount(number(value)) * coinop.Sat
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
	p := wallet.Pay{Order: orderID(w[1]), Account: w[0], Script: k.to(w[3:]), Amount: coinop.Amount(number(w[2])) * coinop.Sat}
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
	p := wallet.Pay{Order: orderID(w[1]), Account: w[0], Script: k.to(w[3:]), Amount: coinop.Amount(number(w[2])) * coinop.Sat}
	if known, ok := k.pays[p.Order]; ok {
		p.Script = known.Script
	}
	k.pays[p.Order] = p
	k.expect(w[0], p)
	k.tell(step.Recv{From: d.peer(), Msg: wallet.Order{ID: p.Order, Script: p.Script, Amount: p.Amount}})
}

func (k *talk) bill(w []string) {
	v := wallet.Invoice{Order: orderID(w[1]), Account: w[0], Amount: coinop.Amount(number(w[2])) * coinop.Sat}
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

// run delivers what is on its way until all are quiet.
func (k *talk) run() {
	for n := 0; ; n++ {
		if n > 1000 {
			k.t.Fatal("they talk for ever")
		}
		if len(k.inbox) == 0 {
			if k.wake > 0 && k.wake <= k.now+1 {
				k.now, k.wake = k.now+1, 0
				k.tell(step.Rang{ID: "wallet"})
				continue
			}
			return
		}
		f := k.inbox[0]
		k.inbox = k.inbox[1:]
		if f.to == wallet.Name {
			k.tell(step.Recv{From: f.from, Msg: f.msg})
			continue
		}
		d := k.byPeer(f.to)
		switch {
		case !d.online:
		case d.lose > 0:
			d.lose--
			k.say("lost: %s", k.describe(f.msg))
		default:
			k.step(d, step.Recv{From: "peer/gateway", Msg: f.msg})
		}
	}
}

// step lets a device's signer decide; wallet messages are for the device.
func (k *talk) step(d *device, event any) {
	if r, ok := event.(step.Recv); ok {
		switch m := r.Msg.(type) {
		case wallet.Settled:
			k.proofs[m.ID] = m.Proof
			k.told[m.ID]++
			k.say("%s hears that %s is paid", d.name, orderName(m.ID))
			return
		case wallet.Failed:
			k.failed[m.ID] = true
			k.say("%s hears that %s is %v: %s", d.name, orderName(m.ID), m.Kind, k.clean(m.Why))
			return
		case wallet.Claimed:
			k.say("%s has account %s", d.name, m.Account)
			return
		case wallet.Refused:
			k.say("%s is refused: %s", d.name, m.Why)
			return
		case wallet.Shown:
			return
		}
	}
	fx := d.signer.Step(step.Input{At: k.now, Events: []any{event}})
	d.disk.Commit(fx.Put)
	for _, p := range fx.Send {
		switch m := p.Msg.(type) {
		case consent.Consent:
			k.say("%s consents", d.name)
		case consent.Refusal:
			k.say("%s refuses: %s", d.name, m.Reason)
		}
		k.inbox = append(k.inbox, flight{d.peer(), wallet.Name, reread(k.t, p.Msg)})
	}
}

// reread is a message as it comes out at the other end of a link.
func reread(t *testing.T, msg any) any {
	m, ok := msg.(interface{ Append([]byte) []byte })
	if !ok {
		return msg
	}
	raw := m.Append(nil)
	var back any
	var err error
	if wallet.Owns(binary.BigEndian.Uint16(raw)) {
		back, err = wallet.Decode(raw)
	} else {
		back, err = consent.Decode(raw)
	}
	if err != nil {
		t.Fatalf("%T: %v", msg, err)
	}
	return back
}

func (k *talk) start() {
	core, err := wallet.Load(k.disk, k.options)
	if err != nil {
		k.t.Fatal(err)
	}
	k.core, k.wake, k.scripts, k.points, k.watched = core, 0, map[string]bool{}, map[wire.OutPoint]bool{}, nil
	k.inbox = slices.DeleteFunc(k.inbox, func(f flight) bool { return true })
	k.tell(step.Rang{ID: step.Start})
	for _, name := range k.names {
		k.link(k.devices[name])
	}
}

// tell steps the wallet and carries out what it wants.
func (k *talk) tell(event any) {
	if r, ok := event.(step.Recv); ok {
		r.Msg = reread(k.t, r.Msg)
		event = r
	}
	fx := k.core.Step(step.Input{At: k.now, Events: []any{event}})
	if len(fx.Put) > 0 {
		k.writes++
	}
	if len(fx.Put) > 0 && (k.doomed || k.writes == k.crashAt) {
		k.doomed = false
		k.say("the write fails")
		if k.after {
			k.disk.Commit(fx.Put) // it does not, but nothing else happens
		}
		k.start()
		return
	}
	k.core.Check()
	if k.disk.Commit(fx.Put); len(fx.Put) > 0 && !k.quiet {
		k.compare()
	}
	for _, p := range fx.Send {
		k.send(p)
	}
	for _, a := range fx.Wake {
		k.wake = a.At // asking again moves it
	}
	for _, d := range fx.Done {
		k.done(d)
	}
}

// compare asserts that what is on disk loads to what is in memory.
func (k *talk) compare() {
	onDisk := map[string]string{}
	k.disk.Scan("", func(key string, value []byte) bool { onDisk[key] = string(value); return true })
	inMemory := map[string]string{}
	for _, r := range k.core.Durable() {
		inMemory[r.Key] = string(r.Value)
	}
	if !maps.Equal(onDisk, inMemory) {
		for key := range inMemory {
			if onDisk[key] != inMemory[key] {
				k.t.Errorf("%q on disk is %x, in memory %x", key, onDisk[key], inMemory[key])
			}
		}
		for key := range onDisk {
			if _, ok := inMemory[key]; !ok {
				k.t.Errorf("%q is on disk, and not in memory", key)
			}
		}
		k.t.FailNow()
	}
	loaded, err := wallet.Load(k.disk, k.options)
	if err != nil {
		k.t.Fatal(err)
	}
	for _, r := range loaded.Durable() {
		if inMemory[r.Key] != string(r.Value) {
			k.t.Fatalf("%q loads as %x, and was %x", r.Key, r.Value, inMemory[r.Key])
		}
		delete(inMemory, r.Key)
	}
	if len(inMemory) > 0 {
		k.t.Fatalf("%d records are not loaded", len(inMemory))
	}
	loaded.Check()
}

func (k *talk) send(p step.Packet) {
	switch m := p.Msg.(type) {
	case watch.Script:
		if !k.scripts[string(m.Script)] {
			k.scripts[string(m.Script)] = true
			k.watched = append(k.watched, m)
		}
		k.inbox = append(k.inbox, flight{watch.Chain, wallet.Name, k.chain.coins(m.Script, m.Prove)})
	case watch.Output:
		k.points[m.Point] = true
		k.inbox = append(k.inbox, flight{watch.Chain, wallet.Name, k.chain.status(m.Point)})
	case watch.HeadersAfter:
		k.inbox = append(k.inbox, flight{watch.Chain, wallet.Name, k.chain.headersAfter(m)})
	case watch.Publish:
		known := slices.ContainsFunc(k.chain.all(), func(t *wire.MsgTx) bool { return t.TxHash() == m.Tx.TxHash() })
		err := k.chain.publish(m.Tx)
		switch {
		case err != nil:
			k.say("the chain refuses: %s", k.clean(err.Error()))
		case !known:
			fee, _ := k.chain.fee(m.Tx)
			k.say("published: %s, fee %d sat for %d vB", k.describeTx(m.Tx), fee, tx.VSize(m.Tx))
			k.report()
		}
	default:
		if d := k.byPeer(p.To); d != nil {
			if m, ok := p.Msg.(consent.Proposal); ok {
				k.say("to %s: %s", d.name, k.describe(m))
			}
			k.inbox = append(k.inbox, flight{wallet.Name, p.To, reread(k.t, p.Msg)})
		}
	}
}

// report tells the wallet of all it watches.
func (k *talk) report() {
	for _, s := range k.watched {
		if c := k.chain.coins(s.Script, s.Prove); len(c.Coins) > 0 || k.scripts["told"+string(s.Script)] {
			k.scripts["told"+string(s.Script)] = true
			k.inbox = append(k.inbox, flight{watch.Chain, wallet.Name, c})
		}
	}
	for _, p := range slices.SortedFunc(maps.Keys(k.points), byPoint) {
		k.inbox = append(k.inbox, flight{watch.Chain, wallet.Name, k.chain.status(p)})
	}
}

func (k *talk) describe(msg any) string {
	p, ok := msg.(consent.Proposal)
	if !ok {
		return strings.ToLower(fmt.Sprintf("%T", msg))
	}
	var names []string
	for _, o := range p.Orders {
		names = append(names, orderName(o.ID))
	}
	if names == nil {
		names = []string{"nobody"}
	}
	text := "a proposal to pay " + strings.Join(names, " ")
	if !p.Replaces.IsZero() {
		text += ", in place of another"
	}
	return text
}

func (k *talk) describeTx(t *wire.MsgTx) string {
	return fmt.Sprintf("%d inputs, %d outputs", len(t.TxIn), len(t.TxOut))
}

// clean takes out of a text what differs from run to run of the maker's mind.
func (k *talk) clean(text string) string {
	words := strings.Fields(text)
	for i, w := range words {
		if len(w) > 60 {
			words[i] = "(id)"
		}
	}
	return strings.Join(words, " ")
}

func (k *talk) done(d step.Outcome) {
	name := d.ID
	id, isOrder := coinop.OrderIDFromKey(d.ID)
	if isOrder {
		name = orderName(id)
	}
	if rest, ok := strings.CutPrefix(d.ID, "bill/"); ok {
		id, _ = coinop.OrderIDFromKey(rest)
		name = "bill " + orderName(id)
	}
	switch v := d.Value.(type) {
	case wallet.Address:
		if who, ok := strings.CutPrefix(d.ID, "fresh/"); ok {
			k.devices[who].fresh = v
			return
		}
		k.bills[id] = v.Script
		k.say("%s: address %d of %s", name, v.Index, v.Account)
	case wallet.View:
		k.say("%s: %s", name, v.Account)
	case receipt.Evidence:
		k.told[id]++
		if was := k.proofs[id]; was != nil && !bytes.Equal(was, v.Proof()) {
			k.t.Errorf("order %s has another proof", name)
		}
		k.proofs[id] = v.Proof()
		k.say("%s is paid, %v", name, v.Entry().Amount)
	case receipt.Income:
		k.say("the till has %v for %s", v.Income().Amount, orderName(v.Income().Order))
	default:
		if d.Err != nil {
			k.say("%s: %s", name, k.clean(strings.ReplaceAll(d.Err.Error(), id.String(), name)))
			return
		}
		k.say("%s: done", name)
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
	for _, id := range slices.SortedFunc(maps.Keys(k.pays), func(a, b coinop.OrderID) int { return bytes.Compare(a[:], b[:]) }) {
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
