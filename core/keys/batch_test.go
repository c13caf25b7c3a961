package keys_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"

	"coinop.dev/core/keys"
)

func secretOf(name string) keys.Secret {
	seed := sha256.Sum256([]byte(name))
	s, err := keys.SecretFromBytes(seed[:])
	if err != nil {
		panic(err)
	}
	return s
}

// However many there are and whichever are bad, the first bad one is named.
func TestVerifyAllFindsTheFirstBadSignature(t *testing.T) {
	secrets := []keys.Secret{secretOf("a"), secretOf("b")}
	for _, n := range []int{0, 1, 7, 8, 16, 17, 100} {
		digests := make([][32]byte, n)
		checks := make([]keys.Check, n)
		for i := range digests {
			digests[i] = sha256.Sum256([]byte(fmt.Sprint(i)))
		}
		for i, sig := range secrets[0].SignAll(digests) {
			s := secrets[0]
			if i%5 == 4 {
				s, sig = secrets[1], secrets[1].Sign(digests[i])
			}
			checks[i] = keys.Check{Key: s.Public(), Digest: digests[i], Sig: sig}
		}
		if bad := keys.VerifyAll(checks); bad != -1 {
			t.Fatalf("signature %d of %d is called bad", bad, n)
		}
		for _, pair := range [][2]int{{0, n - 1}, {n / 2, n - 1}, {n - 1, n - 1}} {
			if n == 0 {
				break
			}
			spoilt := append([]keys.Check(nil), checks...)
			spoilt[pair[0]].Digest[0]++
			spoilt[pair[1]].Key = keys.Public{2} // not on the curve
			if bad := keys.VerifyAll(spoilt); bad != pair[0] {
				t.Errorf("of %d signatures %d is called the first bad one, not %d", n, bad, pair[0])
			}
		}
	}
}

// Whether a key has a table or not makes no difference, whatever the digest, the
// signature or the key.
func TestATableVerifiesAsWithout(t *testing.T) {
	half, _ := hex.DecodeString("7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0")
	for i := range 6 {
		s := secretOf(fmt.Sprint("table", i))
		key := s.Public()
		if i == 0 {
			key = keys.Public{2} // not on the curve
		}
		checks := make([]keys.Check, 40)
		for j := range checks {
			c := &checks[j]
			c.Key, c.Digest = key, sha256.Sum256([]byte{byte(i), byte(j)})
			c.Sig = s.Sign(c.Digest)
		}
		for j, spoil := range []func(c *keys.Check){
			func(c *keys.Check) {},
			func(c *keys.Check) { c.Digest[31]++ },
			func(c *keys.Check) { c.Sig[3]++ },
			func(c *keys.Check) { c.Sig[60]++ },
			func(c *keys.Check) { clear(c.Sig[:32]) },
			func(c *keys.Check) { clear(c.Sig[32:]) },
			func(c *keys.Check) { copy(c.Sig[32:], half) },
			func(c *keys.Check) { c.Sig[32] |= 0x80 }, // high S
			func(c *keys.Check) { copy(c.Sig[:32], bytes.Repeat([]byte{0xff}, 32)) },
			func(c *keys.Check) { copy(c.Sig[:32], c.Sig[32:]) },
			func(c *keys.Check) { c.Digest = [32]byte{} },
			func(c *keys.Check) { c.Digest = [32]byte(bytes.Repeat([]byte{0xff}, 32)) },
			func(c *keys.Check) { c.Digest = [32]byte{}; c.Sig = s.Sign(c.Digest) },
			func(c *keys.Check) {
				c.Digest = [32]byte(bytes.Repeat([]byte{0xff}, 32))
				c.Sig = s.Sign(c.Digest)
			},
		} {
			some := append([]keys.Check(nil), checks...)
			at := (7*i + j) % len(some)
			spoil(&some[at])
			want := -1
			for k := range some {
				if !some[k].Key.Verify(some[k].Digest, some[k].Sig) {
					want = k
					break
				}
			}
			if got := keys.VerifyAll(some); got != want {
				t.Errorf("key %d, spoilt in way %d: the first bad one is %d, not %d", i, j, got, want)
			}
		}
	}
}

func BenchmarkVerifyAll(b *testing.B) {
	s := secretOf("a")
	for _, n := range []int{1, 31, 32, 64, 483} {
		checks := make([]keys.Check, n)
		for i := range checks {
			checks[i] = keys.Check{Key: s.Public(), Digest: [32]byte{byte(i), byte(i >> 8)}}
			checks[i].Sig = s.Sign(checks[i].Digest)
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				keys.VerifyAll(checks)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/sig")
		})
	}
}

func TestSignAllIsSign(t *testing.T) {
	s := secretOf("a")
	digests := make([][32]byte, 33)
	for i := range digests {
		digests[i][0] = byte(i)
	}
	for i, sig := range s.SignAll(digests) {
		if sig != s.Sign(digests[i]) {
			t.Errorf("signature %d is another", i)
		}
	}
}

// Tweaking a secret and tweaking its key come to the same.
func TestTweaksOfSecretAndKeyAgree(t *testing.T) {
	a, b := secretOf("a"), secretOf("b")
	t1, t2 := sha256.Sum256([]byte("1")), sha256.Sum256([]byte("2"))
	sum, err := a.AddTweak(t1)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := a.Public().AddTweak(t1); err != nil || p != sum.Public() {
		t.Errorf("%v, %v", p, err)
	}
	blend, err := keys.BlendSecrets(a, t1, b, t2)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := keys.Blend(a.Public(), t1, b.Public(), t2); err != nil || p != blend.Public() {
		t.Errorf("%v, %v", p, err)
	}
	if p, err := a.Blend(t1, b.Public(), t2); err != nil || p != blend.Public() {
		t.Errorf("%v, %v", p, err)
	}
}

// What has no secret is refused: sums of nothing, numbers that are no scalar,
// and points that are not on the curve.
func TestImpossibleTweaksAreRefused(t *testing.T) {
	a := secretOf("a")
	one, minusOne := [32]byte{31: 1}, [32]byte{}
	// The order of the group less one.
	copy(minusOne[:], "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xba\xae\xdc\xe6\xaf\x48\xa0\x3b\xbf\xd2\x5e\x8c\xd0\x36\x41\x40")
	tooLarge := [32]byte(sha256.New().Sum(nil))
	for i := range tooLarge {
		tooLarge[i] = 0xff
	}
	p := a.Public()
	if q, err := keys.Blend(p, one, p, minusOne); err == nil {
		t.Errorf("a point less itself is %v", q)
	}
	if _, err := keys.BlendSecrets(a, one, a, minusOne); err == nil {
		t.Error("a secret less itself is a secret")
	}
	if _, err := p.AddTweak(tooLarge); err == nil {
		t.Error("a tweak beyond the group order is taken")
	}
	if _, err := a.AddTweak(tooLarge); err == nil {
		t.Error("a tweak beyond the group order is taken")
	}
	if _, err := (keys.Public{2}).AddTweak(one); err == nil {
		t.Error("a key off the curve is tweaked")
	}
	if _, err := keys.Blend(p, one, keys.Public{2}, one); err == nil {
		t.Error("a key off the curve is blended")
	}
	if _, err := a.Blend(one, keys.Public{2}, one); err == nil {
		t.Error("a key off the curve is blended")
	}
	if q, err := a.Blend(one, p, minusOne); err == nil {
		t.Errorf("a point less itself is %v", q)
	}
}
