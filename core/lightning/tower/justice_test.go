package tower_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/lightning/commit"
	"coinop.dev/core/lightning/tower"
	"coinop.dev/core/money"
)

var types = []commit.Type{commit.StaticRemoteKey, commit.Anchors}

func nothing(wire.OutPoint) bool { return false }

// finder is a tower with some blobs and nothing else.
func finder(blobs []tower.Blob) func(tower.Hint) []*[tower.SealedSize]byte {
	return func(h tower.Hint) (all []*[tower.SealedSize]byte) {
		for i := range blobs {
			if blobs[i].Hint == h {
				all = append(all, &blobs[i].Sealed)
			}
		}
		return all
	}
}

// A cheater publishes a commitment it has revoked. With its txid, and what the
// client left, everything in it is taken: to_local with the tower's reward,
// to_remote and all HTLCs without.
func TestABreachIsPunished(t *testing.T) {
	for _, typ := range types {
		for _, htlcs := range []int{0, 1, 4, 483} {
			t.Run(fmt.Sprintf("%v with %d HTLCs", typ, htlcs), func(t *testing.T) {
				if htlcs == 483 && testing.Short() {
					t.Skip("signs a thousand times")
				}
				l := open(t, typ)
				some := terms
				some.Rates[0] = 1000 // so that HTLCs of 2,000 sat are worth it
				if htlcs == 483 {
					some.Rates[1] = 0
				}
				s := l.state(5, htlcs)
				j, id := l.justice(some, s)
				blobs := j.Seal(id)
				if len(blobs) != 1+(htlcs+1)/2 {
					t.Errorf("%d blobs", len(blobs))
				}

				breach := l.breach(s)
				if breach.TxHash() != id {
					t.Fatal("the cheater has another transaction")
				}
				opened, err := tower.Open(breach.TxHash(), &blobs[0].Sealed, finder(blobs))
				if err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(opened, j) {
					t.Errorf("opened %v, sealed %v", opened, j)
				}
				penalties, err := opened.Penalties(some, breach, id, false, nothing)
				if err != nil {
					t.Fatal(err)
				}
				spent, paid := punished(t, breach, penalties, some.Rates[0])
				if want := 2 + htlcs; len(spent) != want {
					t.Errorf("took outputs %v, want %d", spent, want)
				}
				k := l.build(s)
				won := k.Tx.TxOut[k.ToLocal].Value
				if want := 1000 + won/100; paid[string(towerScript)] != want {
					t.Errorf("the tower gets %d sat of %d, want %d", paid[string(towerScript)], won, want)
				}
				if len(j.Outputs(breach, id)) != len(spent) {
					t.Error("the outputs that are followed are not those that are spent")
				}
			})
		}
	}
}

// When fees have risen the second version is used, where there is one.
func TestUrgentPenaltiesPayMore(t *testing.T) {
	for _, typ := range types {
		l := open(t, typ)
		s := l.state(0, 2) // HTLCs of 2,000 sat are worth nothing at 50 sat/vB
		j, id := l.justice(terms, s)
		breach := l.breach(s)
		penalties, err := j.Penalties(terms, breach, id, true, nothing)
		if err != nil {
			t.Fatal(err)
		}
		if len(penalties) != 2 {
			t.Fatalf("%d penalties", len(penalties))
		}
		punished(t, breach, penalties[:1], rates[1])
		if pairs := penalties[1]; len(pairs.TxIn) != 3 {
			t.Errorf("%v: with urgency %d of 3 other outputs are left", typ, len(pairs.TxIn))
		}
		one := terms
		one.Rates[1] = 0
		j, id = l.justice(one, s)
		if penalties, err = j.Penalties(one, breach, id, true, nothing); err != nil {
			t.Fatal(err)
		}
		punished(t, breach, penalties, rates[0])
	}
}

// The cheater takes an HTLC by its second stage before the penalties confirm:
// the others are taken without it.
func TestWhatTheCheaterTookIsLeftOut(t *testing.T) {
	l := open(t, commit.Anchors)
	some := terms
	some.Rates[0] = 1000
	s := l.state(3, 3)
	j, id := l.justice(some, s)
	breach := l.breach(s)
	gone := l.build(s).Outputs[1].Vout
	penalties, err := j.Penalties(some, breach, id, false, func(p wire.OutPoint) bool { return p.Index == gone })
	if err != nil {
		t.Fatal(err)
	}
	spent, _ := punished(t, breach, penalties, 1000)
	if len(spent) != 4 {
		t.Errorf("took %v", spent)
	}
	for _, vout := range spent {
		if vout == gone {
			t.Error("spends what is gone")
		}
	}
}

// The terms are under the signatures: a tower that takes a larger reward, or a
// blob for another transaction, has nothing that is valid.
func TestATowerCannotHelpItself(t *testing.T) {
	l := open(t, commit.Anchors)
	s := l.state(3, 0)
	j, id := l.justice(terms, s)
	greedy := terms
	greedy.Reward.PPM *= 2
	penalties, err := j.Penalties(greedy, l.breach(s), id, false, nothing)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range penalties { // to_remote is left, and pays no reward
		for _, o := range p.TxOut {
			if !bytes.Equal(o.PkScript, payout) {
				t.Error("a reward was taken")
			}
		}
	}
	j.Payout = towerScript
	if _, err := j.Penalties(terms, l.breach(s), id, false, nothing); err == nil {
		t.Error("another payout is signed")
	}
	if _, err := j.Penalties(terms, l.breach(l.state(4, 0)), id, false, nothing); err == nil {
		t.Error("another commitment is punished")
	}
}

func TestNoJustice(t *testing.T) {
	l := open(t, commit.Anchors)
	s := l.state(3, 0)
	k := l.build(s)
	if _, err := tower.NewJustice(terms, &l.channel, k, l.victim, l.cheater.PerCommitment(4), payout); err == nil {
		t.Error("a secret of another commitment is taken")
	}
	if _, err := tower.NewJustice(terms, &l.channel, k, l.victim, l.cheater.PerCommitment(3), []byte{1}); err == nil {
		t.Error("any payout script is taken")
	}
	s.Local, s.Remote = capacity*money.Sat, 0 // the cheater had nothing
	l.channel.Opener = commit.Local
	if _, err := tower.NewJustice(terms, &l.channel, l.build(s), l.victim, l.cheater.PerCommitment(3), payout); !errors.Is(err, tower.ErrNothing) {
		t.Errorf("got %v", err)
	}
}

// Without the txid a blob says nothing: not how many HTLCs there were, not
// which channel, not what it is.
func TestBlobsSayNothing(t *testing.T) {
	var all []tower.Blob
	for _, typ := range types {
		l := open(t, typ)
		for n := range uint64(3) {
			j, id := l.justice(terms, l.state(n, int(n)*2))
			all = append(all, j.Seal(id)...)
		}
	}
	seen := map[tower.Hint]bool{}
	for i := range all {
		if seen[all[i].Hint] {
			t.Error("two blobs have one hint")
		}
		seen[all[i].Hint] = true
		for _, open := range [][]byte{payout, make([]byte, 16), all[i].Hint[:]} {
			if bytes.Contains(all[i].Sealed[:], open) {
				t.Errorf("a sealed blob shows %x", open)
			}
		}
	}
	if size := len(tower.Put{Blobs: all}.Append(nil)) - len(tower.Put{}.Append(nil)); size != len(all)*tower.BlobSize {
		t.Errorf("%d blobs are %d bytes", len(all), size)
	}
	// The txid of another commitment opens nothing, and neither does the right
	// one where a byte was changed.
	l := open(t, commit.Anchors)
	j, id := l.justice(terms, l.state(9, 2))
	blobs := j.Seal(id)
	for _, typ := range types {
		other := open(t, typ)
		_, wrong := other.justice(terms, other.state(8, 2))
		if _, err := tower.Open(wrong, &blobs[0].Sealed, finder(blobs)); err == nil {
			t.Error("opened with the txid of another commitment")
		}
	}
	if _, err := tower.Open(id, &blobs[1].Sealed, finder(blobs)); err == nil {
		t.Error("a later part opens as the first")
	}
	for at := range blobs[0].Sealed {
		bad := blobs[0].Sealed
		bad[at] ^= 1
		if _, err := tower.Open(id, &bad, finder(blobs)); err == nil {
			t.Fatalf("opened with byte %d changed", at)
		}
	}
	if again := j.Seal(id); !reflect.DeepEqual(again, blobs) {
		t.Error("sealing is not deterministic")
	}
}

// Sealing two things under one txid must not use a nonce twice.
func TestNoncesFollowFromWhatIsSealed(t *testing.T) {
	l := open(t, commit.Anchors)
	s := l.state(9, 0)
	one, id := l.justice(terms, s)
	cheap := terms
	cheap.Rates[0] = 1000
	two, _ := l.justice(cheap, s)
	a, b := one.Seal(id)[0], two.Seal(id)[0]
	if a.Hint != b.Hint || bytes.Equal(a.Sealed[:12], b.Sealed[:12]) {
		t.Error("one nonce for two blobs")
	}
}

// A part that is missing costs its own HTLCs; a bad one costs nothing if the
// right one is there too.
func TestMissingParts(t *testing.T) {
	l := open(t, commit.Anchors)
	some := terms
	some.Rates[0] = 1000
	s := l.state(5, 6)
	j, id := l.justice(some, s)
	blobs := j.Seal(id)
	junk := blobs[1]
	junk.Sealed[100] ^= 1
	breach := l.breach(s)
	opened, err := tower.Open(id, &blobs[0].Sealed, finder([]tower.Blob{blobs[0], junk, blobs[1], blobs[3]}))
	if err != nil {
		t.Fatal(err)
	}
	penalties, err := opened.Penalties(some, breach, id, false, nothing)
	if err != nil {
		t.Fatal(err)
	}
	if spent, _ := punished(t, breach, penalties, 1000); len(spent) != 2+4 {
		t.Errorf("took %v", spent)
	}
}

func TestTermsAreChecked(t *testing.T) {
	if err := terms.Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(t *tower.Terms){
		"no rate":       func(t *tower.Terms) { t.Rates[0] = 0 },
		"low rate":      func(t *tower.Terms) { t.Rates[0] = 999 },
		"high rate":     func(t *tower.Terms) { t.Rates[1] = 1_000_001 },
		"falling rates": func(t *tower.Terms) { t.Rates[1] = t.Rates[0] },
		"script":        func(t *tower.Terms) { t.Reward.Script = []byte{1, 2} },
		"no script":     func(t *tower.Terms) { t.Reward.Script = nil },
		"base":          func(t *tower.Terms) { t.Reward.Base = -1 },
		"huge base":     func(t *tower.Terms) { t.Reward.Base = math.MaxInt64 },
		"all of it":     func(t *tower.Terms) { t.Reward.PPM = 1_000_001 },
		"no blobs":      func(t *tower.Terms) { t.Blobs = 0 },
		"many blobs":    func(t *tower.Terms) { t.Blobs = tower.MaxBlobs + 1 },
	} {
		bad := terms
		change(&bad)
		if bad.Check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	for _, htlcs := range []int{0, 2} {
		b.Run(fmt.Sprintf("%d HTLCs", htlcs), func(b *testing.B) {
			l := open(b, commit.Anchors)
			s := l.state(5, htlcs)
			k, revealed := l.build(s), l.cheater.PerCommitment(5)
			b.ReportAllocs()
			for b.Loop() {
				j, err := tower.NewJustice(terms, &l.channel, k, l.victim, revealed, payout)
				if err != nil {
					b.Fatal(err)
				}
				j.Seal(k.ID)
			}
		})
	}
}
