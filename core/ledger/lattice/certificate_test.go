package lattice_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/lattice"
)

// table makes representatives with weights, and what they sign with.
func table(weights ...uint64) (w lattice.Weights, secrets map[lattice.Key]eddsa.Secret) {
	secrets = map[lattice.Key]eddsa.Secret{}
	for i, weight := range weights {
		s := lattice.NewSecret([32]byte{byte(i), byte(i >> 8), 1})
		secrets[s.Public()] = s
		w = append(w, lattice.Weight{Rep: s.Public(), Weight: lattice.RawOf(weight)})
	}
	slices.SortFunc(w, func(a, b lattice.Weight) int { return bytes.Compare(a.Rep[:], b.Rep[:]) })
	return w, secrets
}

// certify has representatives vote finally for a block and one more.
func certify(hash lattice.Hash, secrets []eddsa.Secret) (c lattice.Certificate) {
	c.Hash = hash
	for _, s := range secrets {
		v := lattice.Vote{Timestamp: lattice.FinalTimestamp, Hashes: []lattice.Hash{{9}, hash}}
		v.Sign(s)
		c.Votes = append(c.Votes, v)
	}
	return c
}

// TestCertificate has a hundred units of weight, of which 67 must have voted.
func TestCertificate(t *testing.T) {
	w, secrets := table(40, 26, 33, 1)
	by := map[uint64]eddsa.Secret{}
	for _, row := range w {
		by[row.Weight.Lo] = secrets[row.Rep]
	}
	if w.Total() != lattice.RawOf(100) || w.Quorum() != lattice.RawOf(67) {
		t.Fatalf("quorum is %s of %s", w.Quorum(), w.Total())
	}
	hash := lattice.Hash{5}
	good := certify(hash, []eddsa.Secret{by[40], by[26], by[1]})
	if err := good.Verify(w); err != nil {
		t.Errorf("67 of 100 is refused: %v", err)
	}
	again, err := lattice.DecodeCertificate(good.Append(nil))
	if err != nil || again.Verify(w) != nil {
		t.Errorf("it is read as %+v: %v", again, err)
	}
	stranger := lattice.NewSecret([32]byte{77})
	for _, c := range []struct {
		why  string
		cert lattice.Certificate
	}{
		{"final votes of 66 raw", certify(hash, []eddsa.Secret{by[40], by[26]})},
		{"final votes of 0 raw", certify(hash, nil)},
		{"two votes", certify(hash, []eddsa.Secret{by[40], by[26], by[26]})},
		{"has no weight", certify(hash, []eddsa.Secret{by[40], by[26], by[1], stranger})},
		{"5 votes; there are 4", certify(hash, []eddsa.Secret{by[40], by[40], by[40], by[40], by[40]})},
		{"not final", spoilVote(good, func(v *lattice.Vote) { v.Timestamp = 16; v.Sign(by[1]) })},
		{"for another block", spoilVote(good, func(v *lattice.Vote) { v.Hashes = v.Hashes[:1]; v.Sign(by[1]) })},
		{"did not sign", spoilVote(good, func(v *lattice.Vote) { v.Signature[3] ^= 1 })},
		{"did not sign", spoilVote(good, func(v *lattice.Vote) { v.Hashes = append(slices.Clone(v.Hashes), lattice.Hash{8}) })},
	} {
		if err := c.cert.Verify(w); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%v; want %s", err, c.why)
		}
	}
}

// spoilVote changes the last vote of a copy.
func spoilVote(c lattice.Certificate, change func(*lattice.Vote)) lattice.Certificate {
	c.Votes = slices.Clone(c.Votes)
	change(&c.Votes[len(c.Votes)-1])
	return c
}

// TestQuorumRoundsUp: two thirds are not 67 percent, whatever the total.
func TestQuorumRoundsUp(t *testing.T) {
	for _, c := range []struct{ total, quorum uint64 }{{1, 1}, {2, 2}, {3, 3}, {100, 67}, {101, 68}, {200, 134}, {1000, 670}} {
		if got := (lattice.Weights{{Weight: lattice.RawOf(c.total)}}).Quorum(); got != lattice.RawOf(c.quorum) {
			t.Errorf("quorum of %d is %s; want %d", c.total, got, c.quorum)
		}
	}
	all := lattice.Weights{{Weight: lattice.MaxRaw}}
	if got := all.Quorum().String(); got != "227989185837028770520460986979284701675" {
		t.Errorf("quorum of the supply is %s", got)
	}
}

func TestWeights(t *testing.T) {
	w, _ := table(3, 1, 2)
	if err := w.Check(); err != nil {
		t.Fatal(err)
	}
	got, err := lattice.DecodeWeights(w.Append(nil))
	if err != nil || !slices.Equal(got, w) || got.Digest() != w.Digest() {
		t.Errorf("table is read as %v: %v", got, err)
	}
	for _, row := range w {
		if w.Of(row.Rep) != row.Weight {
			t.Errorf("%s has %s; want %s", row.Rep, w.Of(row.Rep), row.Weight)
		}
	}
	if !w.Of(lattice.Key{}).IsZero() {
		t.Error("who is not in the table has weight")
	}
	long, _ := table(make([]uint64, lattice.MaxWeights+1)...)
	for why, wrong := range map[string]lattice.Weights{
		"ascending order": {w[1], w[0]}, "ascending order at": {w[0], w[0]}, "no weight": {{Rep: w[0].Rep}},
		"sums to more": {{w[0].Rep, lattice.MaxRaw}, w[1]}, "it must have 1 to": nil, "1001 representatives": long,
	} {
		if err := wrong.Check(); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%v; want %s", err, why)
		}
		if _, err := lattice.DecodeWeights(wrong.Append(nil)); err == nil {
			t.Errorf("a table is read; want %s", why)
		}
	}
}

func FuzzDecodeCertificate(f *testing.F) {
	w, secrets := table(1, 2)
	c := certify(lattice.Hash{1}, []eddsa.Secret{secrets[w[0].Rep], secrets[w[1].Rep]})
	f.Add(c.Append(nil))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := lattice.DecodeCertificate(raw)
		if err == nil && !bytes.Equal(c.Append(nil), raw) {
			t.Fatalf("%x is written again as %x", raw, c.Append(nil))
		}
		if err == nil && !bytes.Equal(raw, c.Append(nil)) && c.Verify(w) == nil {
			t.Fatalf("%x is taken", raw)
		}
	})
}

func FuzzDecodeWeights(f *testing.F) {
	w, _ := table(1, 2, 3)
	f.Add(w.Append(nil))
	f.Fuzz(func(t *testing.T, raw []byte) {
		w, err := lattice.DecodeWeights(raw)
		if err == nil && (!bytes.Equal(w.Append(nil), raw) || w.Check() != nil) {
			t.Fatalf("%x is written again as %x", raw, w.Append(nil))
		}
	})
}

func FuzzDecodeVote(f *testing.F) {
	v := lattice.Vote{Timestamp: 1, Hashes: []lattice.Hash{{1}, {2}}}
	f.Add(v.Append(nil))
	f.Fuzz(func(t *testing.T, raw []byte) {
		v, err := lattice.DecodeVote(raw)
		if err == nil && !bytes.Equal(v.Append(nil), raw) {
			t.Fatalf("%x is written again as %x", raw, v.Append(nil))
		}
	})
}

func FuzzDecodeBlock(f *testing.F) {
	b := lattice.Block{Account: lattice.Key{1}, Work: 7}
	f.Add(b.Append(nil))
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := lattice.DecodeBlock(raw)
		if err == nil && (!bytes.Equal(b.Append(nil), raw) || len(raw) != lattice.BlockSize) {
			t.Fatalf("%x is written again as %x", raw, b.Append(nil))
		}
	})
}

func FuzzParseAccount(f *testing.F) {
	f.Add(lattice.Key{1}.String())
	f.Add("xrb_" + lattice.Key{1}.String()[5:])
	f.Fuzz(func(t *testing.T, text string) {
		k, err := lattice.ParseAccount(text)
		if err == nil && strings.TrimPrefix(k.String(), "nano_") != strings.TrimPrefix(strings.TrimPrefix(text, "nano_"), "xrb_") {
			t.Fatalf("%s is written again as %s", text, k)
		}
	})
}

func FuzzParseURI(f *testing.F) {
	f.Add("nano:" + lattice.Key{1}.String() + "?amount=12&label=a%20b&message=c+d")
	f.Fuzz(func(t *testing.T, text string) {
		u, err := lattice.ParseURI(text)
		if err != nil {
			return
		}
		if again, err := lattice.ParseURI(u.String()); len(u.String()) <= lattice.MaxURI && (err != nil || again != u) {
			t.Fatalf("%s is read again as %+v: %v", u, again, err)
		}
	})
}

func FuzzParseAmounts(f *testing.F) {
	f.Add("340282366920938463463374607431768211455")
	f.Add("0.1")
	f.Fuzz(func(t *testing.T, text string) {
		if r, err := lattice.ParseRaw(text); err == nil && r.String() != text {
			t.Fatalf("%s raw is written again as %s", text, r)
		}
		if r, err := lattice.ParseNano(text); err == nil {
			if again, err := lattice.ParseNano(r.Nano()); err != nil || again != r {
				t.Fatalf("%s nano is written again as %s", text, r.Nano())
			}
		}
	})
}
