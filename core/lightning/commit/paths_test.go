package commit_test

import (
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/commit"
)

var types = []commit.Type{commit.StaticRemoteKey, commit.Anchors}

// spend tries to spend an output: who signs, and what else the witness has.
type spend struct {
	parent   *wire.MsgTx
	vout     int
	script   []byte // witness script; nil for P2WPKH
	sequence uint32
	lockTime uint32
	key      keys.Secret
	rest     [][]byte // after the signature
}

func (s spend) run() error {
	t := wire.NewMsgTx(2)
	t.LockTime = s.lockTime
	t.AddTxIn(&wire.TxIn{PreviousOutPoint: wire.OutPoint{Hash: s.parent.TxHash(), Index: uint32(s.vout)}, Sequence: s.sequence})
	out := s.parent.TxOut[s.vout]
	t.AddTxOut(wire.NewTxOut(out.Value, tx.P2WPKH(s.key.Public())))
	if s.script == nil {
		t.TxIn[0].Witness = tx.WitnessP2WPKH(s.key, t, 0, out.Value)
		return runs(t, 0, out)
	}
	sig := tx.WitnessSig(s.key.Sign(tx.Sighash(t, 0, s.script, out.Value)))
	t.TxIn[0].Witness = append(append(wire.TxWitness{sig}, s.rest...), s.script)
	return runs(t, 0, out)
}

// must and never say what the engine has to think of a spend.
func must(t *testing.T, what string, s spend) {
	t.Helper()
	if err := s.run(); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

func never(t *testing.T, what string, s spend) {
	t.Helper()
	if s.run() == nil {
		t.Errorf("%s is possible", what)
	}
}

const final = wire.MaxTxInSequenceNum

// Bob publishes a commitment of his own. Each of its outputs goes to whom, and
// when, BOLT 3 says, and to nobody else.
func TestEverySpendingPath(t *testing.T) {
	for _, typ := range types {
		t.Run(typ.String(), func(t *testing.T) { everyPath(t, newEnds(typ, 10_000_000, commit.Local)) })
	}
}

func everyPath(t *testing.T, e *ends) {
	s := stateOf(e.alice.Capacity, 4, 253)
	point, per := e.bobSecrets.Point(s.Number), e.bobSecrets.PerCommitment(s.Number)
	sig, second := build(t, &e.alice, commit.Remote, point, s).Sign(e.aliceSecrets)
	k := build(t, &e.bob, commit.Local, point, mirror(s))
	if err := k.Verify(sig, second); err != nil {
		t.Fatal(err)
	}
	published := k.Signed(e.bobSecrets, sig)
	if err := runs(published, 0, e.bob.FundingOutput()); err != nil {
		t.Fatal("commitment:", err)
	}
	if k.ID != published.TxHash() {
		t.Fatalf("the commitment's ID is %v, not %v", k.ID, published.TxHash())
	}
	revocation, err := commit.RevocationSecret(e.aliceSecrets.Revocation, per)
	if err != nil {
		t.Fatal(err)
	}
	balances(t, e, k, published, revocation)
	for i := range k.Outputs {
		htlcPaths(t, e, k, published, i, second[i], revocation)
	}
}

func balances(t *testing.T, e *ends, k *commit.Commitment, published *wire.MsgTx, revocation keys.Secret) {
	delayed := commit.DeriveSecret(e.bobSecrets.Delayed, k.Point)
	delay := uint32(e.bob.Local.Delay)
	toLocal := spend{parent: published, vout: k.ToLocal, script: k.SecondScript(), sequence: delay, key: delayed, rest: [][]byte{nil}}
	must(t, "to_local after the delay", toLocal)
	early, stolen, penalty := toLocal, toLocal, toLocal
	early.sequence = delay - 1
	never(t, "to_local before the delay", early)
	stolen.key = e.aliceSecrets.Delayed
	never(t, "to_local with another's key", stolen)
	penalty.key, penalty.sequence, penalty.rest = revocation, final, [][]byte{{1}}
	must(t, "to_local with the revocation key", penalty)

	toRemote := spend{parent: published, vout: k.ToRemote, sequence: final, key: e.aliceSecrets.Payment}
	if e.bob.Type == commit.Anchors {
		toRemote.script, toRemote.sequence = commit.ToRemoteScript(k.Keys.Payment), 1
		early := toRemote
		early.sequence = 0
		never(t, "to_remote in the block of the commitment", early)
		for vout, key := range map[int]keys.Secret{k.LocalAnchor: e.bobSecrets.Funding, k.RemoteAnchor: e.aliceSecrets.Funding} {
			anchor := spend{parent: published, vout: vout, script: commit.AnchorScript(key.Public()), sequence: 0, key: key}
			must(t, "an anchor by its owner", anchor)
			anchor.key = secretOf("passer-by")
			never(t, "an anchor by a passer-by at once", anchor)
		}
		anyone := wire.NewMsgTx(2)
		anyone.AddTxIn(&wire.TxIn{PreviousOutPoint: wire.OutPoint{Hash: k.ID, Index: uint32(k.LocalAnchor)}, Sequence: 16})
		anyone.TxIn[0].Witness = wire.TxWitness{nil, commit.AnchorScript(e.bobSecrets.Funding.Public())}
		if err := runs(anyone, 0, published.TxOut[k.LocalAnchor]); err != nil {
			t.Error("an anchor by a passer-by after 16 blocks:", err)
		}
	}
	must(t, "to_remote", toRemote)
}

func htlcPaths(t *testing.T, e *ends, k *commit.Commitment, published *wire.MsgTx, i int, theirs keys.Signature, revocation keys.Secret) {
	o := &k.Outputs[i]
	right, wrong := pre(o.HTLC), pre(o.HTLC+1)
	alice := commit.DeriveSecret(e.aliceSecrets.HTLC, k.Point)
	direct := spend{parent: published, vout: int(o.Vout), script: o.Script, sequence: e.bob.Type.HTLCSequence(), key: alice}
	penalty := direct
	penalty.key, penalty.sequence = revocation, final
	revocationKey := revocation.Public()
	penalty.rest = [][]byte{revocationKey[:]}
	must(t, "an HTLC with the revocation key", penalty)

	var mine []byte // what completes Bob's second stage
	if o.Offered {
		direct.rest = [][]byte{right}
		must(t, "an HTLC that Bob offered, with the preimage", direct)
		direct.rest = [][]byte{wrong}
		never(t, "an HTLC that Bob offered, with another preimage", direct)
	} else {
		mine = right
		direct.rest, direct.lockTime = [][]byte{nil}, o.Expiry
		must(t, "an HTLC that Bob received, after it expired", direct)
		direct.lockTime--
		never(t, "an HTLC that Bob received, before it expired", direct)
		direct.lockTime++
		if e.bob.Type == commit.Anchors {
			direct.sequence = 0
			never(t, "an HTLC in the block of the commitment", direct)
		}
	}
	second := completed(&e.bob, k, i, e.bobSecrets, theirs, mine)
	if err := runs(second, 0, published.TxOut[o.Vout]); err != nil {
		t.Fatal("second stage:", err)
	}
	if o.Offered {
		early := second.Copy()
		early.LockTime--
		if runs(early, 0, published.TxOut[o.Vout]) == nil {
			t.Error("HTLC-timeout is possible before the expiry")
		}
	} else if runs(completed(&e.bob, k, i, e.bobSecrets, theirs, wrong), 0, published.TxOut[o.Vout]) == nil {
		t.Error("HTLC-success is possible with another preimage")
	}
	addedFee(t, e, k, second, i)

	delayed := spend{
		parent: second, script: k.SecondScript(), sequence: uint32(e.bob.Local.Delay),
		key: commit.DeriveSecret(e.bobSecrets.Delayed, k.Point), rest: [][]byte{nil},
	}
	must(t, "the second stage after the delay", delayed)
	delayed.sequence--
	never(t, "the second stage before the delay", delayed)
	delayed.sequence, delayed.key, delayed.rest = final, revocation, [][]byte{{1}}
	must(t, "the second stage with the revocation key", delayed)
}

// With anchors the peer's signature still holds when an input and an output are
// added for the fee, and not when the first output is another.
func addedFee(t *testing.T, e *ends, k *commit.Commitment, second *wire.MsgTx, i int) {
	o := &k.Outputs[i]
	out := wire.NewTxOut(o.Value, tx.P2WSH(o.Script))
	more := second.Copy()
	more.AddTxIn(&wire.TxIn{PreviousOutPoint: wire.OutPoint{Index: 5}, Sequence: final})
	more.AddTxOut(wire.NewTxOut(600, tx.P2WPKH(e.bobSecrets.Payment.Public())))
	resign := func() {
		mine := commit.DeriveSecret(e.bobSecrets.HTLC, k.Point).Sign(tx.Sighash(more, 0, o.Script, o.Value))
		more.TxIn[0].Witness[2] = tx.WitnessSig(mine)
	}
	resign()
	if err := runs(more, 0, out); (err == nil) != (e.bob.Type == commit.Anchors) {
		t.Errorf("with an added fee: %v", err)
	}
	more.TxOut[0].Value--
	resign()
	if runs(more, 0, out) == nil {
		t.Error("the second stage can pay less than was signed")
	}
}
