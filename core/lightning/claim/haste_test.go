package claim_test

import (
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/lightning/claim"
	"coinop.dev/core/lightning/commit"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// rateOf is what the transaction in the mempool pays that spends an output, in
// sat/kvB.
func (g *game) rateOf(p wire.OutPoint) int64 {
	for _, t := range g.mempool {
		for _, in := range t.TxIn {
			fee, err := g.valid(t, g.mempool)
			if in.PreviousOutPoint == p && err == nil {
				return fee * 1000 / int64(tx.VSize(t))
			}
		}
	}
	return 0
}

// Miners do not take the penalty. It pays more and more, never more than it is
// worth, in few replacements; and when at last it is taken nothing is lost.
func TestFeesGrowAsTheDeadlineComesNear(t *testing.T) {
	both(t, func(t *testing.T, g *game) {
		g.begin()
		b := g.bobsCommitment(3)
		g.block(b.tx)
		g.stuck = func(*wire.MsgTx) bool { return true }
		outputs := map[wire.OutPoint]int64{{Hash: b.ID, Index: uint32(b.ToLocal)}: 0}
		for _, o := range b.Outputs {
			outputs[wire.OutPoint{Hash: b.ID, Index: o.Vout}] = 0
		}
		replacements := 0
		for g.tip() < start+30 {
			g.block()
			for p, last := range outputs {
				rate := g.rateOf(p)
				if rate < last {
					t.Errorf("at %d the fee rate fell from %d to %d", g.tip(), last, rate)
				}
				if rate > last {
					replacements++
				}
				outputs[p] = rate
			}
		}
		for p, last := range outputs {
			if last < 100_000 || replacements > 11*len(outputs) {
				t.Errorf("the last fee rate of output %d is %d sat/kvB; %d replacements", p.Index, last, replacements)
			}
		}
		g.stuck = func(*wire.MsgTx) bool { return false }
		g.until(start + 40)
		if f := g.ends(); f.Theirs > commit.AnchorValue {
			t.Errorf("%+v", f)
		}
	})
}

// With anchors our commitment is published with a child that pays for both, and
// the child's fee grows until the commitment is in.
func TestAnchorsBumpTheCommitment(t *testing.T) {
	g := newGame(t, commit.Anchors)
	g.k.Force, g.k.FeeRate = true, 1_000 // the commitment itself pays 2 sat/vB
	g.begin()
	if len(g.mempool) != 1 || len(g.lent) != 0 {
		t.Errorf("%d transactions in the mempool for a commitment that pays enough", len(g.mempool))
	}
	g.do(step.Recv{From: "node", Msg: claim.Rate{FeeRate: 10_000}})
	if len(g.mempool) != 2 {
		t.Fatalf("%d transactions in the mempool; refused: %v", len(g.mempool), g.refused)
	}
	rate := func() int64 {
		fee, size := int64(0), 0
		for _, m := range g.mempool {
			f, err := g.valid(m, g.mempool)
			if err != nil {
				t.Fatal(err)
			}
			fee, size = fee+f, size+tx.VSize(m)
		}
		return fee * 1000 / int64(size)
	}
	if r := rate(); r < 9_900 || r > 10_200 {
		t.Errorf("the package pays %d sat/kvB", r)
	}
	g.stuck = func(*wire.MsgTx) bool { return true }
	g.until(1090) // close to the expiry of "dust", the first of all
	if r := rate(); r < 100_000 {
		t.Errorf("close to the deadline the package pays %d sat/kvB", r)
	}
	g.stuck = func(*wire.MsgTx) bool { return false }
	g.until(1200)
	g.ends()
	g.want("out", false)
	g.noRefusals()
}

// Without a coin the HTLC transactions of an anchors channel wait, and the
// wallet is asked at every block; our commitment goes out alone.
func TestAPoorWalletIsAskedAgain(t *testing.T) {
	g := newGame(t, commit.Anchors)
	g.k.Force, g.poor = true, true
	g.begin()
	g.until(1105)
	if len(g.lent) != 0 || g.spends[g.channel.Funding].by == nil {
		t.Fatal("the commitment did not go out")
	}
	g.wantNot("out")
	g.poor = false
	g.until(1110)
	if len(g.lent) != 1 {
		t.Errorf("%d coins were lent", len(g.lent))
	}
	g.until(1160)
	g.want("out", false)
	g.ends()
	if len(g.released) != 0 {
		t.Error("a coin was released that was used")
	}
}

// Coins that were lent and not used go back.
func TestUnusedCoinsAreReleased(t *testing.T) {
	g := newGame(t, commit.Anchors)
	g.k.Force, g.k.FeeRate = true, 20_000
	g.begin()
	if len(g.lent) != 1 {
		t.Fatalf("%d coins are lent", len(g.lent))
	}
	g.block(g.bobsCommitment(current).tx) // Bob was faster
	g.until(1200)
	g.ends()
	if len(g.released) != 1 {
		t.Errorf("%d coins were released", len(g.released))
	}
}

// A coin that was not asked for, that pays for something else already, or that
// comes from elsewhere is not taken; nor are statuses from elsewhere, and
// preimages of nothing.
func TestForgeriesAreIgnored(t *testing.T) {
	g := newGame(t, commit.Anchors)
	g.k.Force, g.k.FeeRate, g.poor = true, 20_000, true
	g.begin()
	forged := wire.NewMsgTx(2)
	forged.AddTxIn(wire.NewTxIn(&g.channel.Funding, nil, nil))
	var wanted wire.OutPoint
	for wanted = range g.asked {
	}
	before, sent := len(g.disk), g.sent
	for _, ev := range []step.Recv{
		{From: claim.Wallet, Msg: claim.Funds{For: wire.OutPoint{Index: 9}, Coin: tx.Coin{Value: 5_000, Point: wire.OutPoint{Index: 3}}}},
		{From: claim.Wallet, Msg: claim.Funds{For: wanted, Coin: tx.Coin{}}},
		{From: "peer/02", Msg: claim.Funds{For: wanted, Coin: tx.Coin{Value: 5_000}}},
		{From: "peer/02", Msg: watch.Status{Point: g.channel.Funding, Tip: 5_000, Depth: 4_000, Spender: forged, SpendDepth: 3_000}},
		{From: "peer/02", Msg: claim.Preimage{Preimage: preimageOf("nothing")}},
		{From: "node", Msg: claim.Rate{FeeRate: tx.MaxFeeRate + 1}},
	} {
		g.do(ev)
	}
	if len(g.disk) != before || g.sent != sent || len(g.resolved) != 0 {
		t.Errorf("%d records became %d", before, len(g.disk))
	}
	g.poor = false
	g.do(step.Rang{ID: "again"})
	coin := g.lent[wanted]
	g.poor = true
	g.until(1101) // the HTLC that timed out needs a coin too
	before = len(g.disk)
	for other := range g.asked {
		if other != wanted {
			g.do(step.Recv{From: claim.Wallet, Msg: claim.Funds{For: other, Coin: coin}})
		}
	}
	if len(g.disk) != before {
		t.Error("a coin pays twice")
	}
}

// However high fees are, half of what is taken stays, or a tenth when time runs
// out.
func TestFeesStayBelowWhatTheyTake(t *testing.T) {
	both(t, func(t *testing.T, g *game) {
		const value = 200_000 // sat; at 1,000 sat/vB a spend is worth most of it
		s := stateOf(current, 6_000_000)
		s.HTLCs = append(s.HTLCs, commit.HTLC{Amount: value * money.Sat, Hash: hashOf("small"), Expiry: 1090})
		s.Remote -= value * money.Sat
		g.states[current], g.k.Remote, g.k.Next, g.k.HTLCs = s, s, nil, s.HTLCs
		g.k.FeeRate = tx.MaxFeeRate
		g.stuck = func(*wire.MsgTx) bool { return true }
		g.begin()
		g.knows("small")
		b := g.bobsCommitment(current)
		g.block(b.tx)
		_, o := b.output("small")
		fee := func() int64 {
			for _, m := range g.mempool {
				if m.TxIn[0].PreviousOutPoint.Index == o.Vout {
					fee, _ := g.valid(m, nil)
					return fee
				}
			}
			t.Fatal("nothing takes the HTLC")
			return 0
		}
		if fee() != value/2 {
			t.Errorf("a fee of %d sat for %d sat", fee(), value)
		}
		g.until(1089)
		if fee() <= value/2 || fee() > value/10*9 {
			t.Errorf("a fee of %d sat for %d sat in the end", fee(), value)
		}
	})
}

// The same status again sends nothing again; a new block or an alarm does.
func TestPublishingIsRepeatedAtEachTip(t *testing.T) {
	both(t, func(t *testing.T, g *game) {
		g.stuck = func(m *wire.MsgTx) bool { return true }
		g.begin()
		g.block(g.bobsCommitment(current).tx)
		sent := g.sent
		if sent == 0 {
			t.Fatal("nothing was sent")
		}
		g.tell()
		if g.sent != sent {
			t.Errorf("%d more transactions for the same tip", g.sent-sent)
		}
		g.block()
		if g.sent == sent {
			t.Error("nothing was sent again at a new tip")
		}
		sent = g.sent
		g.do(step.Rang{ID: "again"})
		if g.sent == sent {
			t.Error("nothing was sent again at the alarm")
		}
	})
}

// Bob's revoked commitment is reorganised away after we took everything, and his
// latest one is mined in its place: the tree is another one then.
func TestAReorganisationMakesAnotherTree(t *testing.T) {
	both(t, func(t *testing.T, g *game) {
		g.begin()
		g.block(g.bobsCommitment(3).tx)
		g.until(1004)
		g.undo(4)
		g.block(g.bobsCommitment(current).tx)
		g.until(1006)
		if g.finished != nil {
			t.Fatal("it is finished")
		}
		g.until(1140)
		if f := g.ends(); f.Theirs < 3_900_000 {
			t.Errorf("%+v", f)
		}
	})
}

// A sweep that was mined is undone, more than once: it is published again, and
// money counts only when it is deep.
func TestAReorganisationOfASweep(t *testing.T) {
	both(t, func(t *testing.T, g *game) {
		g.begin()
		g.block(g.bobsCommitment(current + 1).tx)
		g.knows("in")
		for range 3 {
			g.until(g.tip() + 4)
			g.undo(4)
			g.tell()
			g.wantNot("in")
		}
		g.until(g.tip() + 12)
		g.want("in", true)
		g.until(1140)
		g.ends()
	})
}

// What is below its fee is left, whoever's it is, and does not hold up the end.
func TestWhatIsNotWorthAFeeIsLeft(t *testing.T) {
	both(t, func(t *testing.T, g *game) {
		g.states[current] = stateOf(current, 400+commitFee(g), "dust")
		g.k.Remote, g.k.Next = g.states[current], nil
		g.begin()
		g.block(g.bobsCommitment(current).tx)
		g.until(1020)
		if g.finished == nil {
			t.Fatal("it is not finished")
		}
		theirs := 10_000_000 - 400 - commitFee(g)
		if g.channel.Type == commit.Anchors {
			theirs += commit.AnchorValue
		}
		if f := g.finished; f.Ours != 0 || f.Theirs != theirs {
			t.Errorf("%+v", f)
		}
		if g.sent != 0 {
			t.Errorf("%d transactions were sent", g.sent)
		}
	})
}

// commitFee is what Alice, who opened the channel, loses of her balance before
// to_remote: the fee, and what stateOf sets aside for "dust".
func commitFee(g *game) int64 {
	fee := g.channel.Fee(commit.Remote, 500, 0) + 100
	if g.channel.Type == commit.Anchors {
		fee += 2 * commit.AnchorValue
	}
	return fee
}

// Bob fills mempools with a second stage that pays much and that nobody mines,
// so a penalty over all outputs is not relayed. The others do not wait for that
// one, and when it is mined after all, the penalty follows.
func TestAPinnedOutputDoesNotHoldUpTheOthers(t *testing.T) {
	g := newGame(t, commit.Anchors)
	g.begin()
	b := g.bobsCommitment(3)
	g.mine(b.tx)
	pin := b.stage("out")
	coin := g.gift("bob's coin", wire.NewTxOut(200_000, tx.P2WPKH(g.bob.Payment.Public())))
	pin.AddTxIn(&wire.TxIn{PreviousOutPoint: coin, Sequence: wire.MaxTxInSequenceNum})
	i, o := b.output("out")
	pin.TxIn[0].Witness[2] = tx.WitnessSig(commit.DeriveSecret(g.bob.HTLC, b.Point).Sign(tx.Sighash(pin, 0, o.Script, o.Value)))
	pin.TxIn[1].Witness = tx.WitnessP2WPKH(g.bob.Payment, pin, 1, 200_000)
	g.broadcast(pin)
	if len(g.mempool) != 1 {
		t.Fatal(g.refused)
	}
	g.stuck = func(m *wire.MsgTx) bool { return m == pin }
	g.tell()
	g.until(start + 25)
	if _, ok := g.spends[wire.OutPoint{Hash: b.ID, Index: uint32(b.ToLocal)}]; !ok {
		t.Errorf("to_local waits for the pinned HTLC %d", i)
	}
	g.stuck = func(*wire.MsgTx) bool { return false }
	g.until(start + 60)
	g.want("out", true)
	if f := g.ends(); f.Theirs != commit.AnchorValue {
		t.Errorf("%+v", f)
	}
}
