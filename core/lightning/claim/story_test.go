package claim_test

import (
	"bytes"
	"testing"

	"coinop.dev/core/lightning/claim"
	"coinop.dev/core/lightning/commit"
	"coinop.dev/core/step"
)

// BOLT 5, "mutual close": nothing to do but wait.
func TestCooperativeClose(t *testing.T) {
	both(t, func(t *testing.T, g *game) {
		k, err := g.channel.Closing(6_000_000_000, 4_000_000_000, g.k.Payout, make([]byte, 22), 700)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := g.bobs.Closing(4_000_000_000, 6_000_000_000, make([]byte, 22), g.k.Payout, 700)
		if err != nil {
			t.Fatal(err)
		}
		g.k.HTLCs = []commit.HTLC{} // all were settled before shutdown
		g.begin()
		g.block(k.Signed(g.alice, theirs.Sign(g.bob)))
		g.until(start + depth - 1)
		if g.finished != nil {
			t.Error("it is finished too early")
		}
		g.block()
		if f := g.ends(); f.Ours != 5_999_300 || f.Theirs != 4_000_000 || f.Fees != 700 || g.sent != 0 {
			t.Errorf("%+v, %d transactions sent", f, g.sent)
		}
	})
}

// BOLT 5, "local commitment": we publish; our HTLC times out, the one we can
// pay for we take, and the one of a stranger goes back to Bob.
func TestOurCommitment(t *testing.T) {
	both(t, func(t *testing.T, g *game) {
		g.k.Force = true
		g.begin()
		g.knows("in")
		g.block()
		g.wantNot("dust")
		g.until(1050) // to_local and HTLC-success of "in" are swept by now
		g.want("dust", false)
		g.want("in", true)
		g.wantNot("out")
		g.until(1121)
		g.block(g.bobTakes("stranger"))
		g.wantNot("stranger")
		g.until(1150)
		g.want("out", false)
		g.want("stranger", false)
		if f := g.ends(); f.Theirs != 3_600_000 && f.Theirs != 3_600_000+commit.AnchorValue {
			t.Errorf("%+v", f)
		}
		g.noRefusals()
	})
}

// Bob takes the HTLC that we offered in our commitment: its preimage is in the
// witness.
func TestOurCommitmentTeachesAPreimage(t *testing.T) {
	both(t, func(t *testing.T, g *game) {
		g.k.Force = true
		g.begin()
		g.block()
		g.block(g.bobTakes("out"))
		g.want("out", true) // at once: a preimage is a preimage
		g.until(1130)
		g.want("in", false)
		g.want("stranger", false)
		g.ends()
	})
}

// BOLT 5, "remote commitment": to_remote, our HTLC after it expired, and the one
// whose preimage comes late.
func TestTheirCommitment(t *testing.T) {
	for _, n := range []uint64{current, current + 1} {
		both(t, func(t *testing.T, g *game) {
			g.begin()
			g.block(g.bobsCommitment(n).tx)
			g.until(1010)
			g.want("dust", false)
			g.knows("in")
			g.until(1020)
			g.want("in", true)
			g.wantNot("out")
			g.until(1120)
			g.want("out", false)
			g.until(1130)
			if n == current {
				g.want("stranger", false) // long expired
			} else {
				g.want("stranger", false) // it was not in there
			}
			g.ends()
			g.noRefusals()
		})
	}
}

// Bob claims our HTLC by HTLC-success from his commitment: the preimage is in the
// second stage.
func TestTheirCommitmentTeachesAPreimage(t *testing.T) {
	both(t, func(t *testing.T, g *game) {
		g.begin()
		b := g.bobsCommitment(current)
		g.block(b.tx)
		g.block(b.stage("out"))
		g.want("out", true)
		g.until(1091)
		g.block(b.stage("in")) // times out
		g.until(1130)
		g.want("in", false)
		g.ends()
	})
}

// BOLT 5, "revoked transaction close": everything is ours.
func TestRevokedCommitment(t *testing.T) {
	both(t, func(t *testing.T, g *game) {
		g.begin()
		g.block(g.bobsCommitment(3).tx)
		g.until(1010)
		f := g.ends()
		if f.Theirs != 0 && f.Theirs != commit.AnchorValue || f.Fees > 6_000 {
			t.Errorf("%+v", f)
		}
		g.want("out", false)
		g.want("in", false)
		g.noRefusals()
	})
}

// Bob moves HTLCs of a revoked commitment on by second stages before we can
// stop him; the penalty follows him, and we learn what he paid with.
func TestRevokedCommitmentWithSecondStages(t *testing.T) {
	both(t, func(t *testing.T, g *game) {
		g.begin()
		b := g.bobsCommitment(3)
		g.block(b.tx, b.stage1(t, "out"))
		g.until(1010)
		g.want("out", true)
		f := g.ends()
		if f.Theirs != 0 && f.Theirs != commit.AnchorValue {
			t.Errorf("%+v", f)
		}
		g.noRefusals()
	})
}

// The case was opened without traces: we ask for them, and take what can be seen
// meanwhile.
func TestRevokedCommitmentWithLateTraces(t *testing.T) {
	both(t, func(t *testing.T, g *game) {
		traces := g.k.Traces
		g.k.Traces, g.k.HTLCs = nil, []commit.HTLC{htlcs["dust"]}
		g.begin()
		g.block(g.bobsCommitment(3).tx)
		if len(g.revoked) != 1 || g.revoked[0].Number != 3 {
			t.Fatalf("revoked: %v", g.revoked)
		}
		g.until(1100) // whatever "dust" was, it is over; but not for the rest
		if g.finished != nil {
			t.Fatal("it did not wait for the traces")
		}
		g.trace(traces)
		g.until(1110)
		if f := g.ends(); f.Theirs != 0 && f.Theirs != commit.AnchorValue {
			t.Errorf("%+v", f)
		}
	})
}

// Data loss: Bob is ahead of all we know. Only to_remote is ours, and we must
// not guess about HTLCs before they expired.
func TestUnknownCommitment(t *testing.T) {
	both(t, func(t *testing.T, g *game) {
		g.states[9] = stateOf(9, 5_500_000, "in")
		g.begin()
		g.block(g.bobsCommitment(9).tx)
		if s := g.c.Summary(); s.Kind != "unknown" || s.SpendDepth != 1 || s.HTLCs != 4 {
			t.Errorf("%+v", s)
		}
		g.until(1050)
		g.wantNot("out")
		g.until(1130)
		g.want("out", false)
		if f := g.ends(); f.Ours < 5_490_000 || f.Ours > 5_500_000 {
			t.Errorf("%+v", f)
		}
	})
}

// An old commitment of our own: somebody has published it from an old copy of our
// disk. It is not taken for a revoked one of the peer's with the same number, and
// nobody waits for its traces.
func TestOurOwnOldCommitment(t *testing.T) {
	both(t, func(t *testing.T, g *game) {
		old := g.states[3]
		k, err := g.bobs.Build(commit.Remote, g.alice.Point(3), mirror(old))
		if err != nil {
			t.Fatal(err)
		}
		sig, _ := k.Sign(g.bob)
		if k, err = g.channel.Build(commit.Local, g.alice.Point(3), old); err != nil {
			t.Fatal(err)
		}
		g.begin()
		g.block(k.Signed(g.alice, sig))
		if s := g.c.Summary(); s.Kind != "unknown" || len(g.revoked) > 0 {
			t.Errorf("%+v, %v", s, g.revoked)
		}
		g.until(1130)
		g.want("out", false)
		if g.finished == nil {
			t.Error("it does not end")
		}
	})
}

// A case that contradicts itself is refused before anything is published.
func TestAContradictoryCaseIsRefused(t *testing.T) {
	for name, change := range map[string]func(g *game){
		"another channel's secrets": func(g *game) { g.alice = g.bob },
		"money out of nothing":      func(g *game) { g.k.Local.Local++ },
		"a missing signature":       func(g *game) { g.k.LocalHTLCSigs = g.k.LocalHTLCSigs[1:] },
		"a point off the curve":     func(g *game) { g.k.RemotePoint = [33]byte{2} },
		"no payout":                 func(g *game) { g.k.Payout = nil },
		"no fee":                    func(g *game) { g.k.FeeRate = 0 },
		"no depth":                  func(g *game) { g.k.Depth = 0 },
		"too many traces":           func(g *game) { g.k.Traces = make([]claim.Trace, claim.MaxTraces+1) },
	} {
		g := newGame(t, commit.Anchors)
		change(g)
		if _, err := claim.New(g.k, g.alice, g.wallet); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}

// After the end the records can go.
func TestAFinishedClaimIsForgotten(t *testing.T) {
	g := newGame(t, commit.Anchors)
	g.begin()
	g.block(g.bobsCommitment(3).tx)
	g.until(start + 20)
	g.ends()
	sent := g.sent
	g.restart()
	g.block()
	if g.sent != sent {
		t.Error("it goes on after the end")
	}
	if fx := g.c.Step(step.Input{Events: []any{step.Rang{ID: "again"}}}); len(fx.Wake) != 0 {
		t.Error("it wants to be woken after the end")
	}
	for _, r := range g.c.Forget() {
		if r.Value != nil {
			t.Errorf("%s stays", r.Key)
		}
		delete(g.disk, r.Key)
	}
	if len(g.disk) != 0 {
		t.Errorf("%d records stay", len(g.disk))
	}
}

// FuzzLoad changes one record: loading it is an error, or gives a claim with the
// same records that can be stepped.
func FuzzLoad(f *testing.F) {
	g := newGame(f, commit.Anchors)
	g.k.Force, g.k.FeeRate = true, 20_000
	g.begin()
	g.knows("in")
	g.block()
	var names []string
	g.disk.Scan("", func(key string, _ []byte) bool { names = append(names, key); return true })
	for i := range names {
		f.Add(byte(i), uint16(0), []byte{1})
		f.Add(byte(i), uint16(40), []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	}
	f.Fuzz(func(t *testing.T, which byte, at uint16, change []byte) {
		d := disk{}
		for k, v := range g.disk {
			d[k] = v
		}
		name := names[int(which)%len(names)]
		raw := append([]byte(nil), d[name]...)
		copy(raw[min(int(at), len(raw)):], change)
		d[name] = raw
		c, err := claim.Load(d, g.k.ID(), g.alice, g.wallet)
		if err != nil {
			return
		}
		for _, r := range c.Durable() {
			if r.Key == name && !bytes.Equal(r.Value, raw) {
				t.Errorf("%s is read as %x, was %x", name, r.Value, raw)
			}
		}
		c.Step(step.Input{Events: []any{step.Rang{ID: step.Start}}})
	})
}

// The end waits for depth even when no HTLC does.
func TestTheEndIsDeepWithoutHTLCs(t *testing.T) {
	both(t, func(t *testing.T, g *game) {
		g.states[current] = stateOf(current, 6_000_000)
		g.k.Remote, g.k.Next, g.k.HTLCs = g.states[current], nil, []commit.HTLC{}
		g.begin()
		g.block(g.bobsCommitment(current).tx)
		g.until(1020)
		g.ends()
	})
}

// Two HTLCs that differ in nothing each have their output and their fate.
func TestTwins(t *testing.T) {
	both(t, func(t *testing.T, g *game) {
		twins := stateOf(current, 6_000_000, "in", "in")
		g.states[current], g.k.Remote, g.k.Next = twins, twins, nil
		g.k.HTLCs = twins.HTLCs
		g.twins = map[int]bool{}
		g.begin()
		g.knows("in")
		g.block(g.bobsCommitment(current).tx)
		g.until(1020)
		g.ends()
		if !g.twins[0] || !g.twins[1] {
			t.Errorf("fates: %v", g.twins)
		}
	})
}
