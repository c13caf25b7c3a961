package eddsa_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/oasisprotocol/curve25519-voi/curve"
	"github.com/oasisprotocol/curve25519-voi/curve/scalar"

	"coinop.dev/core/ledger/eddsa"
)

func source(seed uint64) *rand.ChaCha8 {
	return rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
}

func random(r *rand.ChaCha8) (b [32]byte) {
	r.Read(b[:])
	return b
}

// TestSHA512IsEd25519 holds us to the standard library: the same keys and the same
// bytes, and each takes what the other signs.
func TestSHA512IsEd25519(t *testing.T) {
	r := source(1)
	for n := range 50 {
		key, msg := random(r), make([]byte, n*7)
		r.Read(msg)
		s, std := eddsa.NewSecret(eddsa.SHA512, key), ed25519.NewKeyFromSeed(key[:])
		public, sig := s.Public(), s.Sign(msg)
		if !bytes.Equal(public[:], std.Public().(ed25519.PublicKey)) {
			t.Fatalf("key %x is %x; the standard library has %x", key, public, std.Public())
		}
		if !bytes.Equal(sig[:], ed25519.Sign(std, msg)) {
			t.Fatalf("signature of %d bytes differs from the standard library's", len(msg))
		}
		if !eddsa.Verify(eddsa.SHA512, public, msg, sig) || !eddsa.VerifyCofactored(eddsa.SHA512, public, msg, sig) {
			t.Fatalf("signature of %d bytes is refused", len(msg))
		}
		sig[r.Uint64()%64] ^= 1 << (r.Uint64() % 8)
		want := ed25519.Verify(public[:], msg, sig[:])
		if eddsa.Verify(eddsa.SHA512, public, msg, sig) != want || eddsa.VerifyCofactored(eddsa.SHA512, public, msg, sig) != want {
			t.Fatalf("a signature with one bit changed is taken")
		}
	}
}

// TestZeroKey is the vector in Nano's documentation of signing (protocol-design,
// signing-hashing-and-key-derivation.md).
func TestZeroKey(t *testing.T) {
	public := eddsa.NewSecret(eddsa.BLAKE2b512, [32]byte{}).Public()
	if got := strings.ToUpper(hex.EncodeToString(public[:])); got != "19D3D919475DEED4696B5D13018151D1AF88B2BD3BCFF048B45031C1F36D1858" {
		t.Errorf("public key of zero is %s", got)
	}
}

func TestSecretDoesNotPrint(t *testing.T) {
	key := random(source(2))
	s := eddsa.NewSecret(eddsa.BLAKE2b512, key)
	holder := struct {
		s eddsa.Secret
		p *eddsa.Secret
	}{s, &s}
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s", "%d"} {
		for _, value := range []any{s, &s, holder, []eddsa.Secret{s}} {
			text := fmt.Sprintf(verb, value)
			for _, leak := range []string{hex.EncodeToString(key[:4]), fmt.Sprintf("%d %d %d", key[0], key[1], key[2]), fmt.Sprintf("%#x, %#x", key[0], key[1])} {
				if strings.Contains(text, leak) {
					t.Errorf("%s of %T prints the key: %s", verb, value, text)
				}
			}
		}
	}
	if text := fmt.Sprint(s); text != "secret" {
		t.Errorf("it prints as %q", text)
	}
	if _, err := s.MarshalText(); err == nil {
		t.Error("it marshals")
	}
	if s.Reveal() != key || s.IsZero() || !(eddsa.Secret{}).IsZero() {
		t.Error("it is not the key it was made of")
	}
}

// A signed is a signature and whether ZIP-215 takes it.
type signed struct {
	what   string
	public [32]byte
	msg    []byte
	sig    [64]byte
	good   bool
}

// torsion is every way to write a point of small order: the eight points, and
// those of them that can also be written with a coordinate of p or more, or with
// the sign of zero.
func torsion() (encodings [][32]byte) {
	for _, p := range curve.EIGHT_TORSION {
		var c curve.CompressedEdwardsY
		encodings = append(encodings, *c.SetEdwardsPoint(p))
	}
	wide := func(low byte) (b [32]byte) { // p+low
		for i := range b {
			b[i] = 0xff
		}
		b[0], b[31] = 0xed+low, 0x7f
		return b
	}
	one, minus := [32]byte{1}, wide(0xff)
	for _, b := range [][32]byte{wide(0), wide(1)} {
		encodings = append(encodings, b)
		b[31] |= 0x80
		encodings = append(encodings, b)
	}
	one[31], minus[31] = 0x80, minus[31]|0x80
	return append(encodings, one, minus)
}

// TestSmallOrder is ZIP-215's matrix: whatever the point of small order and
// however it is written, as key and as R, S zero is good.
func TestSmallOrder(t *testing.T) {
	encodings := torsion()
	if len(encodings) != 14 {
		t.Fatalf("there are %d encodings; ZIP-215 has 14", len(encodings))
	}
	batch := eddsa.NewBatch(eddsa.SHA512)
	plain := 0
	for _, a := range encodings {
		for _, r := range encodings {
			sig := [64]byte(append(r[:], make([]byte, 32)...))
			if !eddsa.VerifyCofactored(eddsa.SHA512, a, []byte("Zcash"), sig) {
				t.Errorf("key %x with R %x is refused", a, r)
			}
			if eddsa.Verify(eddsa.SHA512, a, []byte("Zcash"), sig) {
				plain++
			}
			batch.Add(a, []byte("Zcash"), sig)
		}
	}
	if all, each := batch.Verify(); !all || each != nil {
		t.Errorf("the batch refuses some: %v", each)
	}
	if plain == 0 || plain == 14*14 {
		t.Errorf("the plain rule takes %d of 196; it should tell them apart", plain)
	}
}

// TestSmallOrderKeys: everybody can sign for them, so a strict batch takes nothing
// of theirs, and no honest key is one.
func TestSmallOrderKeys(t *testing.T) {
	honest := eddsa.NewSecret(eddsa.SHA512, [32]byte{1})
	for _, a := range torsion() {
		if !eddsa.SmallOrder(a) {
			t.Errorf("%x is not called a point of small order", a)
		}
		batch := eddsa.NewBatch(eddsa.SHA512).Strict()
		batch.Add(honest.Public(), nil, honest.Sign(nil))
		batch.Add(a, nil, [64]byte(append(a[:], make([]byte, 32)...)))
		if all, each := batch.Verify(); all || !each[0] || each[1] {
			t.Errorf("key %x: %v %v", a, all, each)
		}
	}
	if eddsa.SmallOrder(honest.Public()) {
		t.Error("an honest key is called a point of small order")
	}
	for low := range 256 {
		b := [32]byte{byte(low)}
		p, err := curve.NewEdwardsPoint().SetCompressedY((*curve.CompressedEdwardsY)(&b))
		if want := err == nil && p.IsSmallOrder(); eddsa.SmallOrder(b) != want {
			t.Errorf("%x is of small order: %v", b, want)
		}
	}
}

// deal makes a signature in one of many ways, honest or not.
func deal(r *rand.ChaCha8, h eddsa.Hash, secrets []eddsa.Secret) signed {
	s := secrets[r.Uint64()%uint64(len(secrets))]
	msg := make([]byte, r.Uint64()%80)
	r.Read(msg)
	c := signed{"honest", s.Public(), msg, s.Sign(msg), true}
	spoil := func(what string) { c.what, c.good = what, false }
	switch r.Uint64() % 16 {
	case 0:
		spoil("another message")
		c.msg = append(c.msg, 1)
	case 1:
		spoil("another key")
		c.public = eddsa.NewSecret(h, random(r)).Public()
	case 2:
		spoil("S with one bit changed")
		c.sig[32+r.Uint64()%31] ^= 1
	case 3:
		spoil("S and the group's order")
		order, carry := ell(), 0
		for i := range order {
			carry += int(c.sig[32+i]) + int(order[i])
			c.sig[32+i], carry = byte(carry), carry>>8
		}
	case 4:
		spoil("R that is no point")
		copy(c.sig[:32], nowhere(r))
	case 5:
		spoil("key that is no point")
		copy(c.public[:], nowhere(r))
	case 6, 7:
		c.what = "R and key moved by a point of small order"
		c.public, c.sig = twist(h, random(r), msg, int(r.Uint64()%8), int(r.Uint64()%8))
	case 8:
		c.what = "point of small order"
		all := torsion()
		c.public, c.sig = all[r.Uint64()%14], [64]byte{}
		copy(c.sig[:], all[r.Uint64()%14][:])
	}
	return c
}

// ell is the group's order, little-endian.
func ell() (order [32]byte) {
	b, _ := hex.DecodeString("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
	copy(order[:], b)
	return order
}

// nowhere is 32 bytes that are no point.
func nowhere(r *rand.ChaCha8) []byte {
	for {
		b := random(r)
		if _, err := curve.NewEdwardsPoint().SetCompressedY((*curve.CompressedEdwardsY)(&b)); err != nil {
			return b[:]
		}
	}
}

// twist signs with a key and an R that have points of small order in them.
func twist(h eddsa.Hash, key [32]byte, msg []byte, atKey, atR int) (public [32]byte, sig [64]byte) {
	a, _ := scalar.NewFromBytesModOrder(key[:])
	key[0]++
	n, _ := scalar.NewFromBytesModOrder(key[:])
	write := func(s *scalar.Scalar, at int) [32]byte {
		var p curve.EdwardsPoint
		p.MulBasepoint(curve.ED25519_BASEPOINT_TABLE, s)
		p.Add(&p, curve.EIGHT_TORSION[at])
		var c curve.CompressedEdwardsY
		return *c.SetEdwardsPoint(&p)
	}
	public = write(a, atKey)
	r := write(n, atR)
	wide := h(r[:], public[:], msg)
	k, _ := scalar.NewFromBytesModOrderWide(wide[:])
	s := scalar.New().Add(n, k.Mul(k, a))
	copy(sig[:], r[:])
	s.ToBytes(sig[32:])
	return public, sig
}

// TestBatchAgrees gives batches of every size a mix of good and bad signatures: the
// batch says of each what VerifyCofactored says, with keys that are new and that
// are known.
func TestBatchAgrees(t *testing.T) {
	r := source(3)
	for name, h := range map[string]eddsa.Hash{"BLAKE2b": eddsa.BLAKE2b512, "SHA512": eddsa.SHA512} {
		secrets := make([]eddsa.Secret, 20)
		for i := range secrets {
			secrets[i] = eddsa.NewSecret(h, random(r))
		}
		cache := eddsa.NewCache(16)
		batch, cached := eddsa.NewBatch(h), eddsa.NewBatch(h).Use(cache)
		for _, size := range []int{0, 1, 2, 3, 8, 40, 300, 600} {
			for _, honest := range []bool{true, false} {
				batch.Reset()
				cached.Reset()
				var want []bool
				for len(want) < size {
					c := deal(r, h, secrets)
					if honest && !c.good {
						continue
					}
					if got := eddsa.VerifyCofactored(h, c.public, c.msg, c.sig); got != c.good {
						t.Fatalf("%s: %s: good is %v", name, c.what, got)
					}
					want = append(want, c.good)
					batch.Add(c.public, c.msg, c.sig)
					cached.Add(c.public, c.msg, c.sig)
				}
				for _, b := range []*eddsa.Batch{batch, cached} {
					all, each := b.Verify()
					if all != !slices.Contains(want, false) || b.Len() != size {
						t.Fatalf("%s: batch of %d: all good is %v", name, size, all)
					}
					if !all && !slices.Equal(each, want) {
						t.Fatalf("%s: batch of %d says %v; want %v", name, size, each, want)
					}
				}
			}
		}
	}
}

// TestOneBad spoils each of a batch in turn: it alone is named.
func TestOneBad(t *testing.T) {
	const size = 12
	for bad := range size {
		batch := eddsa.NewBatch(eddsa.BLAKE2b512)
		want := make([]bool, size)
		for i := range size {
			s := eddsa.NewSecret(eddsa.BLAKE2b512, [32]byte{byte(i)})
			sig := s.Sign([]byte{byte(i)})
			if want[i] = i != bad; i == bad {
				sig[40] ^= 4
			}
			batch.Add(s.Public(), []byte{byte(i)}, sig)
		}
		if all, each := batch.Verify(); all || !slices.Equal(each, want) {
			t.Errorf("with the %dth bad the batch says %v", bad, each)
		}
	}
}

// TestNoCancelling tries what a batch without coefficients takes: two signatures
// whose faults cancel each other.
func TestNoCancelling(t *testing.T) {
	s := eddsa.NewSecret(eddsa.BLAKE2b512, [32]byte{1})
	one, two := s.Sign([]byte("one")), s.Sign([]byte("two"))
	shift := func(sig [64]byte, by *scalar.Scalar) [64]byte {
		n, err := scalar.NewFromCanonicalBytes(sig[32:])
		if err != nil {
			t.Fatal(err)
		}
		n.Add(n, by).ToBytes(sig[32:])
		return sig
	}
	fault := scalar.NewFromUint64(77)
	batch := eddsa.NewBatch(eddsa.BLAKE2b512)
	batch.Add(s.Public(), []byte("one"), shift(one, fault))
	batch.Add(s.Public(), []byte("two"), shift(two, fault.Neg(fault)))
	if all, each := batch.Verify(); all || each[0] || each[1] {
		t.Errorf("the batch says %v %v", all, each)
	}
}

// TestRulesDiffer says where Nano's node and ZIP-215 part, which is why a network
// must choose one.
func TestRulesDiffer(t *testing.T) {
	h, msg := eddsa.BLAKE2b512, []byte("message")
	s := eddsa.NewSecret(h, [32]byte{7})
	big, carry := s.Sign(msg), 0
	for i, o := range ell() {
		carry += int(big[32+i]) + int(o)
		big[32+i], carry = byte(carry), carry>>8
	}
	if big[63]&0xe0 != 0 {
		t.Fatal("S is too big for this test")
	}
	if !eddsa.Verify(h, s.Public(), msg, big) || eddsa.VerifyCofactored(h, s.Public(), msg, big) {
		t.Error("S beyond the order: Nano's node takes it, ZIP-215 does not")
	}
	public, sig := twist(h, [32]byte{9}, msg, 0, 1)
	if eddsa.Verify(h, public, msg, sig) || !eddsa.VerifyCofactored(h, public, msg, sig) {
		t.Error("R with a point of small order: ZIP-215 takes it, Nano's node does not")
	}
	big[63] |= 0x20
	if eddsa.Verify(h, s.Public(), msg, big) {
		t.Error("S of 2^253 and more is taken")
	}
}

// TestCacheForgets uses more keys than it holds, and again: the answers stay.
func TestCacheForgets(t *testing.T) {
	cache := eddsa.NewCache(4)
	for round := range 3 {
		for i := range 10 {
			s := eddsa.NewSecret(eddsa.BLAKE2b512, [32]byte{byte(i)})
			for range 2 {
				batch := eddsa.NewBatch(eddsa.BLAKE2b512).Use(cache)
				batch.Add(s.Public(), []byte("x"), s.Sign([]byte("x")))
				batch.Add(s.Public(), []byte("y"), s.Sign([]byte("x")))
				if all, each := batch.Verify(); all || !each[0] || each[1] {
					t.Fatalf("round %d, key %d: %v %v", round, i, all, each)
				}
				if n := cache.Len(); n > 4 {
					t.Fatalf("cache holds %d keys; its limit is 4", n)
				}
			}
		}
	}
}

func FuzzVerify(f *testing.F) {
	s := eddsa.NewSecret(eddsa.BLAKE2b512, [32]byte{1})
	public, sig := s.Public(), s.Sign([]byte("m"))
	f.Add(public[:], []byte("m"), sig[:])
	for _, e := range torsion() {
		f.Add(e[:], []byte("m"), append(bytes.Clone(e[:]), make([]byte, 32)...))
	}
	honest := s.Sign([]byte("honest"))
	f.Fuzz(func(t *testing.T, key, msg, signature []byte) {
		var public [32]byte
		var sig [64]byte
		copy(public[:], key)
		copy(sig[:], signature)
		want := eddsa.VerifyCofactored(eddsa.BLAKE2b512, public, msg, sig)
		if !want && eddsa.Verify(eddsa.BLAKE2b512, public, msg, sig) {
			if _, err := scalar.NewFromCanonicalBytes(sig[32:]); err == nil {
				t.Fatal("the plain rule takes what the cofactored one refuses, and S is small")
			}
		}
		batch := eddsa.NewBatch(eddsa.BLAKE2b512).Use(eddsa.NewCache(8))
		batch.Add(public, msg, sig)
		batch.Add(s.Public(), []byte("honest"), honest)
		batch.Add(public, msg, sig)
		all, each := batch.Verify()
		if all != want || !all && (each[0] != want || !each[1] || each[2] != want) {
			t.Fatalf("one at a time it is %v, in a batch %v %v", want, all, each)
		}
	})
}
