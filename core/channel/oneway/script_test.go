package oneway_test

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/channel/oneway"
	"coinop.dev/core/keys"
	"coinop.dev/core/message"
	"coinop.dev/core/money"
	"coinop.dev/core/receipt"
	"coinop.dev/core/step"
	"coinop.dev/internal/script"
	"coinop.dev/sim"
	"coinop.dev/world/drive"
)

func TestScripts(t *testing.T) {
	script.Run(t, "testdata/script/*.txt", func(t *testing.T) func(string) string { return newTalk(t).obey })
}

// talk is a payer and a payee who do nothing unless they are told, the messages
// on their way, and a chain whose scripts are run for real.
//
//	open 10000 sat [for 60]   agree on a channel and start both ends
//	pay a 12 sat              hand the payer an order
//	prove a                   ask the payer for an order's proof
//	deliver [n]               carry what is on its way, or the first n messages
//	lose | repeat | swap      treat what is on its way; swap the first two
//	forge                     spoil the last byte of what is on its way
//	wait 2 s                  let time pass, and alarms go off
//	link                      tell both ends that the link is up again
//	crash payer|payee         start an end again from its disk
//	doom payer|payee          the end's next write fails, and it starts again
//	mine n | reorg n          change the chain, and tell both ends
//	close payer|payee         close together; force payee claims at once
//	state                     both ends' summaries
//	chain                     what the chain pays to whom
type talk struct {
	t      *testing.T
	out    strings.Builder
	now    step.Time
	ledger *sim.Ledger
	terms  oneway.Terms
	ends   map[string]*end
	wire   []flight
}

type end struct {
	name, peer string
	key        keys.Secret
	disk       *sim.Disk
	core       drive.Core
	boot       func() (drive.Core, error)
	alarms     map[string]step.Time
	doomed     bool
}

type flight struct {
	from, to *end
	raw      []byte
}

func secret(name string) keys.Secret {
	k, err := keys.NewSecret(bytes.NewReader(bytes.Repeat([]byte(name), 32)))
	if err != nil {
		panic(err)
	}
	return k
}

func newTalk(t *testing.T) *talk {
	return &talk{t: t, now: 1_000_000, ledger: sim.NewLedger(), ends: map[string]*end{}}
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
	}
	return k.out.String()
}

var commands map[string]func(*talk, []string)

func init() {
	commands = map[string]func(*talk, []string){
		"open": (*talk).open, "pay": (*talk).pay, "deliver": (*talk).deliver, "wait": (*talk).wait,
		"prove":  func(k *talk, w []string) { k.tell(k.ends["payer"], money.Inquiry{Order: orderID(w[0])}) },
		"lose":   func(k *talk, _ []string) { k.wire = nil },
		"repeat": func(k *talk, _ []string) { k.wire = append(k.wire, k.wire...) },
		"swap":   func(k *talk, _ []string) { k.wire[0], k.wire[1] = k.wire[1], k.wire[0] },
		"forge":  (*talk).forge,
		"link": func(k *talk, _ []string) {
			k.each(func(e *end) { k.tell(e, step.Linked{Peer: k.ends[e.peer].key.Public().PeerName()}) })
		},
		"crash": func(k *talk, w []string) { k.start(k.ends[w[0]]) },
		"doom":  func(k *talk, w []string) { k.ends[w[0]].doomed = true },
		"mine": func(k *talk, w []string) {
			for range number(w[0]) {
				k.ledger.Mine()
			}
			k.report()
		},
		"reorg": func(k *talk, w []string) { k.ledger.Reorg(number(w[0])); k.report() },
		"close": func(k *talk, w []string) { k.tell(k.ends[w[0]], oneway.Close{}) },
		"force": func(k *talk, w []string) { k.tell(k.ends[w[0]], oneway.Close{Force: true}) },
		"state": (*talk).state, "chain": (*talk).chain,
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

func amount(words []string) money.Amount {
	a, err := money.ParseAmount(strings.Join(words, " "))
	if err != nil {
		panic(err)
	}
	return a
}

const minted = 100_000

func (k *talk) open(w []string) {
	payer, payee := secret("payer"), secret("payee")
	life := 100
	if len(w) == 4 {
		life = number(w[3])
	}
	wallet := tx.WalletKey(payer)
	coin := wire.OutPoint{Hash: chainhash.Hash{1}}
	k.ledger.Mint(coin, wire.NewTxOut(minted, tx.P2WPKH(wallet.Public())))
	p := oneway.Proposal{
		PayerNode: payer.Public(), PayerKey: oneway.FundingKey(payer, 0).Public(), Capacity: amount(w[:2]),
		Expiry: k.ledger.Tip() + int32(life), FeeRate: tx.MinFeeRate, PayerScript: tx.P2WPKH(wallet.Public()),
	}
	answer, err := oneway.Consider(p, oneway.Policy{MinCapacity: oneway.MinCapacity, MaxCapacity: money.BTC, MinDepth: 2}, payee, k.ledger.Tip())
	if err != nil {
		fmt.Fprintln(&k.out, err)
		return
	}
	k.terms = oneway.Terms{Proposal: p, Answer: answer}
	funding, _, err := tx.Pay(wallet, []tx.Coin{{Point: coin, Value: minted}}, []*wire.TxOut{k.terms.Output()}, tx.MinFeeRate)
	if err != nil {
		k.t.Fatal(err)
	}
	k.terms.Point = wire.OutPoint{Hash: funding.TxHash()}
	k.add("payer", "payee", payer, func(e *end, fresh bool) (drive.Core, error) {
		if fresh {
			return oneway.NewPayer(k.terms, payer, 0, funding)
		}
		return oneway.LoadPayer(e.disk, k.terms.ID(), payer)
	})
	k.add("payee", "payer", payee, func(e *end, fresh bool) (drive.Core, error) {
		if fresh {
			return oneway.NewPayee(k.terms, payee)
		}
		return oneway.LoadPayee(e.disk, k.terms.ID(), payee)
	})
	k.each(k.start)
}

func (k *talk) add(name, peer string, key keys.Secret, boot func(e *end, fresh bool) (drive.Core, error)) {
	e := &end{name: name, peer: peer, key: key, disk: &sim.Disk{}}
	e.boot = func() (drive.Core, error) {
		raw, _ := e.disk.Get("oneway/" + name + "/" + k.terms.ID().String() + "/terms")
		return boot(e, raw == nil)
	}
	k.ends[name] = e
}

func (k *talk) each(do func(*end)) {
	do(k.ends["payer"])
	do(k.ends["payee"])
}

// start loads an end from its disk. Real machines are told of the chain at once.
func (k *talk) start(e *end) {
	core, err := e.boot()
	if err != nil {
		k.t.Fatal(err)
	}
	e.core, e.alarms = core, map[string]step.Time{}
	k.tell(e, step.Rang{ID: step.Start})
	k.tell(e, step.Recv{From: watch.Chain, Msg: k.ledger.Status(k.terms.Point)})
}

func (k *talk) report() {
	k.each(func(e *end) { k.tell(e, step.Recv{From: watch.Chain, Msg: k.ledger.Status(k.terms.Point)}) })
}

func (k *talk) pay(w []string) {
	k.tell(k.ends["payer"], money.Order{ID: orderID(w[0]), To: "oneway://payee", Amount: amount(w[1:])})
}

func (k *talk) deliver(w []string) {
	n := len(k.wire)
	if len(w) > 0 {
		n = number(w[0])
	}
	way := k.wire[:n]
	k.wire = k.wire[n:]
	for _, f := range way {
		msg, err := message.Decode(f.raw)
		if err != nil {
			fmt.Fprintf(&k.out, "%s cannot read it: %v\n", f.to.name, err)
			continue
		}
		k.tell(f.to, step.Recv{From: f.from.key.Public().PeerName(), Msg: msg})
	}
}

func (k *talk) forge([]string) {
	for i := range k.wire {
		raw := bytes.Clone(k.wire[i].raw)
		raw[len(raw)-1] ^= 1
		k.wire[i].raw = raw
	}
}

func (k *talk) wait(w []string) {
	k.now += step.Time(number(w[0])) * step.Second
	k.each(func(e *end) {
		for _, id := range []string{"resend"} {
			if at, set := e.alarms[id]; set && at <= k.now {
				delete(e.alarms, id)
				k.tell(e, step.Rang{ID: id})
			}
		}
	})
}

// tell steps an end and carries out what it wants.
func (k *talk) tell(e *end, event any) {
	fx := e.core.Step(step.Input{At: k.now, Events: []any{event}})
	if e.doomed && len(fx.Put) > 0 {
		e.doomed = false
		fmt.Fprintf(&k.out, "%s: the write fails\n", e.name)
		k.start(e)
		return
	}
	var put []string
	for _, r := range fx.Put {
		key := r.Key[strings.LastIndex(r.Key, k.terms.ID().String())+33:]
		key = strings.Replace(key, "/00000000000000", "/", 1)
		if r.Value == nil {
			key = "-" + key
		}
		put = append(put, key)
	}
	if len(put) > 0 {
		fmt.Fprintf(&k.out, "%s puts %s\n", e.name, strings.Join(put, " "))
	}
	e.disk.Commit(fx.Put)
	for _, p := range fx.Send {
		k.send(e, p)
	}
	for _, a := range fx.Wake {
		e.alarms[a.ID] = a.At
	}
	for _, d := range fx.Done {
		fmt.Fprintf(&k.out, "%s says %s\n", e.name, k.describeOutcome(d))
	}
}

func (k *talk) send(e *end, p step.Packet) {
	switch msg := p.Msg.(type) {
	case watch.Output:
	case watch.Publish:
		verdict := "the chain takes it"
		if err := k.ledger.Publish(msg.Tx); err != nil {
			verdict = "the chain refuses: " + strings.TrimPrefix(err.Error(), k.terms.Point.String()+" ")
		}
		fmt.Fprintf(&k.out, "%s publishes %s; %s\n", e.name, k.describeTx(msg.Tx), verdict)
	case message.Message:
		fmt.Fprintf(&k.out, "%s sends %s\n", e.name, k.describeMessage(msg))
		k.wire = append(k.wire, flight{e, k.ends[e.peer], msg.Append(nil)})
	}
}

func (k *talk) describeMessage(m message.Message) string {
	switch m := m.(type) {
	case oneway.Ticket:
		var names []string
		for _, e := range m.Entries {
			names = append(names, orderName(e.Order))
		}
		return fmt.Sprintf("tickets %d-%d (stamped %d): %v in all, for %s", m.Base+1, m.Seq, m.Acked, m.Total, strings.Join(names, " "))
	case oneway.Taken:
		return fmt.Sprintf("a stamp on tickets %d-%d: %v", m.From+1, m.To, m.Total)
	case oneway.Offer:
		return fmt.Sprintf("an offer to close at %v, fee %d sat", m.Total, m.Fee)
	}
	return strings.ToLower(strings.TrimPrefix(fmt.Sprintf("%T", m), "oneway."))
}

func (k *talk) describeTx(t *wire.MsgTx) string {
	switch {
	case t.TxHash() == k.terms.Point.Hash:
		return "the funding"
	case t.LockTime > 0:
		return fmt.Sprintf("the refund of %d sat, from block %d", t.TxOut[0].Value, t.LockTime)
	}
	toPayee, toPayer := k.shares(t)
	return fmt.Sprintf("a closing with %d sat for the payee and %d for the payer", toPayee, toPayer)
}

func (k *talk) shares(t *wire.MsgTx) (toPayee, toPayer int64) {
	for _, out := range t.TxOut {
		switch string(out.PkScript) {
		case string(k.terms.PayeeScript):
			toPayee += out.Value
		case string(k.terms.PayerScript):
			toPayer += out.Value
		}
	}
	return toPayee, toPayer
}

func (k *talk) describeOutcome(d step.Outcome) string {
	name := d.ID
	if id, ok := money.OrderIDFromKey(d.ID); ok {
		name = orderName(id)
	}
	switch v := d.Value.(type) {
	case receipt.Paid:
		if _, err := receipt.Verify(v.Entry(), k.terms.Payee.Node, v.Proof()); err != nil {
			k.t.Errorf("order %s: %v", name, err)
		}
		return fmt.Sprintf("%s is paid, %v", name, v.Entry().Amount)
	case oneway.Closed:
		return fmt.Sprintf("it is closed: %d sat for the payee, %d for the payer, fee %d", v.ToPayee, v.ToPayer, v.Fee)
	}
	if d.Err != nil {
		text := d.Err.Error()
		if id, ok := money.OrderIDFromKey(d.ID); ok {
			text = strings.ReplaceAll(text, id.String(), name)
		}
		return text
	}
	return name
}

func (k *talk) state([]string) {
	p := k.ends["payer"].core.(*oneway.Payer).Summary()
	fmt.Fprintf(&k.out, "payer is %s: stamped %v, pending %v, left %v, tickets %d\n", p.State, p.Paid, p.Pending, p.Left, p.Tickets)
	p = k.ends["payee"].core.(*oneway.Payee).Summary()
	fmt.Fprintf(&k.out, "payee is %s: holds %v, at risk %v, tickets %d\n", p.State, p.Paid, p.AtRisk, p.Tickets)
}

func (k *talk) chain([]string) {
	fmt.Fprintf(&k.out, "block %d: payee has %d sat, payer %d\n", k.ledger.Tip(), k.ledger.Paid(k.terms.PayeeScript), k.ledger.Paid(k.terms.PayerScript))
}
