package consent_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/psbt/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/bitcoin/header/headertest"
	"coinop.dev/core/bitcoin/merkle"
	"coinop.dev/core/bitcoin/mnemonic"
	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/consent"
	"coinop.dev/core/keys"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// A gateway is the whole world of a signer: a chain, coins, and the wallet that
// proposes, honest until a test makes it lie.
type gateway struct {
	t      testing.TB
	params *chaincfg.Params
	config consent.Config
	signer *consent.Signer
	disk   disk
	now    step.Time

	headers []wire.BlockHeader // from height 1
	dice    uint32
	sent    []step.Packet // by the signer in the last step
}

const peer = "peer/gateway"

func secret(name string) keys.Secret {
	k, err := keys.NewSecret(bytes.NewReader(bytes.Repeat([]byte(name), 32)))
	if err != nil {
		panic(err)
	}
	return k
}

// accounts are of one seed: an account of each kind.
func accounts(t testing.TB, name string) (all []descriptor.Account) {
	seed, err := mnemonic.SeedFromBytes(bytes.Repeat([]byte(name), 64)[:64])
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []descriptor.Purpose{descriptor.BIP84, descriptor.BIP86, descriptor.BIP49, descriptor.BIP44} {
		a, err := descriptor.NewAccount(seed, p, 1, 0, &chaincfg.RegressionNetParams)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, a)
	}
	return all
}

const (
	wpkh = iota
	tr
	shwpkh
	pkh
)

var usual = consent.Policy{
	PerPayment: 60_000 * money.Sat, PerDay: 150_000 * money.Sat, FeeMax: 3_000 * money.Sat,
	FeeRateMax: 20_000, NeedProof: true, MinDepth: 3,
}

func newGateway(t testing.TB, policy consent.Policy) *gateway {
	g := &gateway{t: t, params: &chaincfg.RegressionNetParams, disk: disk{}, now: 1_800_000_000 * step.Second}
	g.config = consent.Config{Params: g.params, Accounts: accounts(t, "device"), Identity: secret("device"), Wallet: peer, Policy: policy}
	g.boot(0)
	return g
}

// boot starts the signer from its disk, as after a crash.
func (g *gateway) boot(minimum uint64) {
	s, err := consent.Load(g.disk, g.config, minimum)
	if err != nil {
		g.t.Fatal(err)
	}
	g.signer = s
	g.tell(step.Rang{ID: step.Start})
}

// tell lets the signer step, puts its records and keeps what it sent.
func (g *gateway) tell(events ...any) step.Effects {
	g.now += step.Second
	fx := g.signer.Step(step.Input{At: g.now, Events: events})
	g.disk.put(fx.Put)
	g.sent = fx.Send
	return fx
}

func (g *gateway) recv(m any) step.Effects { return g.tell(step.Recv{From: peer, Msg: m}) }

// block mines a block around a transaction and shows the header to the signer.
func (g *gateway) block(t *wire.MsgTx) merkle.Proof {
	g.dice++
	ids := []chainhash.Hash{chainhash.HashH([]byte(fmt.Sprint("coinbase", g.dice))), t.TxHash(), chainhash.HashH([]byte(fmt.Sprint("other", g.dice)))}
	root, err := merkle.Root(ids)
	if err != nil {
		g.t.Fatal(err)
	}
	g.mine(root)
	return merkle.Proof{Height: int32(len(g.headers)), Branch: merkle.Prove(ids, 1)}
}

func (g *gateway) mine(root chainhash.Hash) {
	prev := g.params.GenesisBlock.Header
	if n := len(g.headers); n > 0 {
		prev = g.headers[n-1]
	}
	g.headers = append(g.headers, next(prev, root))
	g.recv(consent.Headers{Headers: g.headers[len(g.headers)-1:]})
}

func next(prev wire.BlockHeader, root chainhash.Hash) wire.BlockHeader {
	h := wire.BlockHeader{Version: 4, PrevBlock: prev.BlockHash(), MerkleRoot: root, Bits: headertest.EasyBits}
	return headertest.Mine(h, prev.Timestamp.Unix()+600)
}

// bury mines blocks on top.
func (g *gateway) bury(n int) {
	for range n {
		g.dice++
		g.mine(chainhash.HashH([]byte(fmt.Sprint("empty", g.dice))))
	}
}

// A coin is an output that the gateway knows of.
type coin struct {
	account int // -1 if another's
	script  descriptor.Script
	tx      *wire.MsgTx
	proof   merkle.Proof
}

func (c *coin) out() *wire.TxOut     { return c.tx.TxOut[1] }
func (c *coin) point() wire.OutPoint { return wire.OutPoint{Hash: c.tx.TxHash(), Index: 1} }

func (g *gateway) script(account int, branch, index uint32) descriptor.Script {
	s, err := g.config.Accounts[account].Descriptor().At(branch, index)
	if err != nil {
		g.t.Fatal(err)
	}
	return s
}

// funding is a transaction whose output 1 pays a script.
func (g *gateway) funding(script []byte, value int64) *wire.MsgTx {
	g.dice++
	t := wire.NewMsgTx(2)
	t.AddTxIn(&wire.TxIn{PreviousOutPoint: wire.OutPoint{Hash: chainhash.HashH(binary.BigEndian.AppendUint32(nil, g.dice))}, Witness: wire.TxWitness{{1, 2}, {3}}})
	t.AddTxOut(wire.NewTxOut(4_000, tx.P2WPKH(secret("miner").Public())))
	t.AddTxOut(wire.NewTxOut(value, script))
	return t
}

// fund gives the device a confirmed coin.
func (g *gateway) fund(account int, index uint32, value int64) coin {
	c := coin{account: account, script: g.script(account, 0, index)}
	c.tx = g.funding(c.script.Script, value)
	c.proof = g.block(c.tx)
	return c
}

// foreign is a confirmed coin of somebody else's.
func (g *gateway) foreign(value int64) coin {
	c := coin{account: -1, script: descriptor.Script{Script: tx.P2WPKH(secret("stranger").Public())}}
	c.tx = g.funding(c.script.Script, value)
	c.proof = g.block(c.tx)
	return c
}

// A draft is a proposal in the making. What a test changes before done is what
// the gateway lies about.
type draft struct {
	consent.Proposal
	packet *psbt.Packet
	coins  []coin
}

func (g *gateway) draft(id string, coins ...coin) *draft {
	d := &draft{packet: &psbt.Packet{UnsignedTx: wire.NewMsgTx(2)}}
	copy(d.ID[:], id)
	for _, c := range coins {
		d.spend(c)
	}
	return d
}

func (d *draft) tx() *wire.MsgTx { return d.packet.UnsignedTx }

func (d *draft) spend(c coin) {
	point := c.point()
	in := psbt.PInput{NonWitnessUtxo: c.tx}
	if c.account != pkh && c.account >= 0 {
		in.WitnessUtxo = c.out()
	}
	if c.account >= 0 {
		in.RedeemScript = c.script.Redeem
		in.Bip32Derivation, in.TaprootBip32Derivation = consent.Derivation(c.script)
		d.Proofs = append(d.Proofs, c.proof)
	}
	d.tx().AddTxIn(&wire.TxIn{PreviousOutPoint: point, Sequence: wire.MaxTxInSequenceNum - 2})
	d.packet.Inputs = append(d.packet.Inputs, in)
	d.coins = append(d.coins, c)
}

// output adds an output that is for nobody's order.
func (d *draft) output(script []byte, sat int64) uint32 {
	d.tx().AddTxOut(wire.NewTxOut(sat, script))
	d.packet.Outputs = append(d.packet.Outputs, psbt.POutput{})
	return uint32(len(d.tx().TxOut) - 1)
}

func (d *draft) change(s descriptor.Script, sat int64) *draft {
	i := d.output(s.Script, sat)
	d.packet.Outputs[i].Bip32Derivation, d.packet.Outputs[i].TaprootBip32Derivation = consent.Derivation(s)
	return d
}

func shop(name string) []byte { return tx.P2WPKH(secret(name).Public()) }

func orderID(name string) (id money.OrderID) {
	copy(id[:], name)
	return id
}

func (d *draft) pay(order string, script []byte, sat int64) *draft {
	d.Orders = append(d.Orders, consent.Order{ID: orderID(order), Output: d.output(script, sat), Script: script, Amount: money.Amount(sat) * money.Sat})
	return d
}

func (d *draft) done(t testing.TB) consent.Proposal {
	var b bytes.Buffer
	if err := d.packet.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	d.PSBT = b.Bytes()
	return d.Proposal
}

// answer proposes and returns what the signer says to it, across the wire.
func (g *gateway) answer(p consent.Proposal) consent.Message {
	g.t.Helper()
	m, err := consent.Decode(p.Append(nil))
	if err != nil {
		g.t.Fatal(err)
	}
	g.recv(m)
	return g.last()
}

// last is the last message of the last step that is a word on a proposal.
func (g *gateway) last() consent.Message {
	for _, p := range slices.Backward(g.sent) {
		switch m := p.Msg.(type) {
		case consent.Consent, consent.Refusal:
			if p.To != peer {
				g.t.Fatalf("%T went to %s", m, p.To)
			}
			return m.(consent.Message)
		}
	}
	return nil
}

// consented wants a consent, checks its mark and runs the script engine over
// every input.
func (g *gateway) consented(d *draft) (consent.Consent, *wire.MsgTx) {
	g.t.Helper()
	c, ok := g.answer(d.done(g.t)).(consent.Consent)
	if !ok {
		g.t.Fatalf("no consent: %v", g.last())
	}
	return c, g.executed(d, c)
}

func (g *gateway) executed(d *draft, c consent.Consent) *wire.MsgTx {
	g.t.Helper()
	if err := c.Check(d.tx().TxHash(), g.config.Identity.Public()); err != nil {
		g.t.Fatal(err)
	}
	signed, prevs, n := d.tx().Copy(), map[wire.OutPoint]*wire.TxOut{}, 0
	for i, own := range d.coins {
		prevs[own.point()] = own.out()
		if own.account >= 0 {
			signed.TxIn[i].SignatureScript, signed.TxIn[i].Witness = consent.Unlock(own.script, c.Signatures[n])
			n++
		}
	}
	if n != len(c.Signatures) {
		g.t.Fatalf("%d signatures for %d inputs", len(c.Signatures), n)
	}
	fetch := txscript.NewMultiPrevOutFetcher(prevs)
	for i, own := range d.coins {
		if own.account < 0 {
			continue
		}
		vm, err := txscript.NewEngine(own.script.Script, signed, i, txscript.StandardVerifyFlags, nil, txscript.NewTxSigHashes(signed, fetch), own.out().Value, fetch)
		if err == nil {
			err = vm.Execute()
		}
		if err != nil {
			g.t.Fatalf("input %d: %v", i, err)
		}
	}
	return signed
}

// refused wants a refusal for a reason, nothing on disk and no signature.
func (g *gateway) refused(p consent.Proposal, want consent.Reason) consent.Refusal {
	g.t.Helper()
	before := len(g.disk)
	r, ok := g.answer(p).(consent.Refusal)
	if !ok || r.Reason != want || r.ID != p.ID {
		g.t.Fatalf("want a refusal for %q, got %+v", want, g.last())
	}
	if len(r.Text) < 20 || strings.Contains(r.Text, "%!") {
		g.t.Errorf("the refusal says %q", r.Text)
	}
	if len(g.disk) != before {
		g.t.Errorf("a refusal left %d records", len(g.disk)-before)
	}
	return r
}

// disk is what is durable.
type disk map[string][]byte

func (d disk) put(records []step.Record) {
	for _, r := range records {
		if r.Value == nil {
			delete(d, r.Key)
			continue
		}
		d[r.Key] = bytes.Clone(r.Value)
	}
}

func (d disk) Get(key string) ([]byte, error) { return d[key], nil }

func (d disk) Scan(prefix string, yield func(string, []byte) bool) error {
	var names []string
	for k := range d {
		if strings.HasPrefix(k, prefix) {
			names = append(names, k)
		}
	}
	slices.Sort(names)
	for _, k := range names {
		if !yield(k, d[k]) {
			break
		}
	}
	return nil
}

func (d disk) copy() disk {
	c := disk{}
	for k, v := range d {
		c[k] = v
	}
	return c
}
