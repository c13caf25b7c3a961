package c_test

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"coinop.dev/core/channel/payword"
	"coinop.dev/core/codec"
	"coinop.dev/core/keys"
	"coinop.dev/world/link/serial"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// chaos is random bytes that are the same every time.
type chaos struct{ *rand.Rand }

func newChaos(seed uint64) chaos { return chaos{rand.New(rand.NewPCG(seed, 7))} }

func (c chaos) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(c.Uint32())
	}
	return b
}

func (c chaos) secret(t testing.TB) keys.Secret {
	s, err := keys.SecretFromBytes(c.bytes(32))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Every length to past two blocks, because padding has its edges.
func TestHashesAreGos(t *testing.T) {
	b, c := newBare(t), newChaos(1)
	// FIPS 180-4's own "abc".
	b.wants(unhex(t, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"), "sha256", []byte("abc"))
	for n := range 140 {
		data, key := c.bytes(n), c.bytes(32)
		sum := sha256.Sum256(data)
		b.wants(sum[:], "sha256", data)
		mac := hmac.New(sha256.New, key)
		mac.Write(data)
		b.wants(mac.Sum(nil), "hmac", key, data)
	}
}

// The numbers at the edges of the moduli, against math/big.
func TestArithmeticIsExact(t *testing.T) {
	b, c := newBare(t), newChaos(2)
	top := new(big.Int).Lsh(big.NewInt(1), 256)
	number := func(n *big.Int) []byte { return n.FillBytes(make([]byte, 32)) }
	for name, text := range map[string]string{
		"field": "fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f",
		"order": "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
		"25519": "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffda",
	} {
		m, _ := new(big.Int).SetString(text, 16)
		rest := number(new(big.Int).Sub(top, m))
		var edges []*big.Int
		for _, d := range []int64{0, 1, 2, 3, 38} {
			edges = append(edges, big.NewInt(d), new(big.Int).Sub(m, big.NewInt(d+1)))
		}
		for range 12 {
			edges = append(edges, new(big.Int).Mod(new(big.Int).SetBytes(c.bytes(32)), m))
			edges = append(edges, new(big.Int).SetBytes(c.bytes(c.IntN(31)))) // small
		}
		for _, x := range edges {
			for _, y := range edges {
				sum, difference, product := new(big.Int).Add(x, y), new(big.Int).Sub(x, y), new(big.Int).Mul(x, y)
				b.wants(number(sum.Mod(sum, m)), "mod", rest, number(x), number(y), []byte("+"))
				b.wants(number(difference.Mod(difference, m)), "mod", rest, number(x), number(y), []byte("-"))
				b.wants(number(product.Mod(product, m)), "mod", rest, number(x), number(y), []byte("*"))
			}
			if inverse := new(big.Int).ModInverse(x, m); inverse != nil && name != "25519" {
				b.wants(number(inverse), "mod", rest, number(x), number(x), []byte("/"))
			}
		}
	}
}

func TestTheCombIsOfTheGenerator(t *testing.T) {
	b := newBare(t)
	for i := 1; i < 16; i++ {
		var k [32]byte
		for tooth := range 4 {
			k[31-8*tooth] = byte(i >> tooth & 1)
		}
		p := secp256k1.PrivKeyFromBytes(k[:]).PubKey()
		want := p.SerializeUncompressed()[1:]
		b.wants(want, "tooth", []byte{byte(i)})
	}
}

// Vectors for RFC 6979 on secp256k1 with SHA-256, as bitcointalk's thread 285142
// and the tests of many libraries (trezor-crypto, decred) have them.
func TestSignaturesAreTheOnesOfRFC6979(t *testing.T) {
	b := newBare(t)
	for _, v := range []struct{ key, text, sig string }{
		{"0000000000000000000000000000000000000000000000000000000000000001", "Satoshi Nakamoto",
			"934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d82442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5"},
		{"0000000000000000000000000000000000000000000000000000000000000001", "All those moments will be lost in time, like tears in rain. Time to die...",
			"8600dbd41e348fe5c9465ab92d23e3db8b98b873beecd930736488696438cb6b547fe64427496db33bf66019dacbf0039c04199abb0122918601db38a72cfc21"},
		{"fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140", "Satoshi Nakamoto",
			"fd567d121db66e382991534ada77a6bd3106f0a1098c231e47993447cd6af2d06b39cd0eb1bc8603e159ef5c20a5c8ad685a45b06ce9bebed3f153d10d93bed5"},
		{"f8b8af8ce3c7cca5e300d33939540c10d45ce001b8f252bfbc57ba0342904181", "Alan Turing",
			"7063ae83e7f62bbb171798131b4a0564b956930092b33b07b395615d9ec7e15c58dfcc1e00a35e1572f366ffe34ba0fc47db1e7189759b9fb233c5b05ab388ea"},
	} {
		digest := sha256.Sum256([]byte(v.text))
		b.wants(unhex(t, v.sig), "sign", unhex(t, v.key), digest[:])
	}
}

func TestSigningAndVerifyingAreGos(t *testing.T) {
	t.Parallel()
	b, c := newBare(t), newChaos(3)
	yes, no := []byte{1}, []byte{0}
	for i := range 25 {
		s, digest := c.secret(t), [32]byte(c.bytes(32))
		public, sig := s.Public(), s.Sign(digest)
		b.wants(public[:], "public", s.Reveal())
		if i == 0 {
			// More than the order: RFC 6979 reduces it before it stirs it in, and
			// decred's library after, so the two sign differently; both are right.
			digest = [32]byte(bytes.Repeat([]byte{0xff}, 32))
			copy(sig[:], b.ask("sign", s.Reveal(), digest[:]))
			if !public.Verify(digest, sig) {
				t.Error("Go does not take a signature of a digest above the order")
			}
		} else {
			b.wants(sig[:], "sign", s.Reveal(), digest[:])
		}
		b.wants(yes, "verify", public[:], digest[:], sig[:])
		for _, broken := range [][3][]byte{
			{public[:], digest[:], flip(c, sig[:])}, {public[:], flip(c, digest[:]), sig[:]}, {flip(c, public[:]), digest[:], sig[:]},
			{public[:], digest[:], highS(sig)}, {public[:], digest[:], make([]byte, 64)}, {public[:], digest[:], bytes.Repeat([]byte{0xff}, 64)},
			{make([]byte, 33), digest[:], sig[:]}, {append([]byte{2}, bytes.Repeat([]byte{0xff}, 32)...), digest[:], sig[:]},
		} {
			b.wants(no, "verify", broken[0], broken[1], broken[2])
		}
		child := s.Derive("oneway/payer/1").Reveal()
		b.wants(child, "derive", s.Reveal(), []byte("oneway/payer/1"))
	}
}

// flip returns b with one bit changed.
func flip(c chaos, b []byte) []byte {
	b = bytes.Clone(b)
	b[c.IntN(len(b))] ^= 1 << c.IntN(8)
	return b
}

// highS is the other signature that ECDSA itself would take.
func highS(sig keys.Signature) []byte {
	n, _ := new(big.Int).SetString("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16)
	s := new(big.Int).SetBytes(sig[32:])
	return append(bytes.Clone(sig[:32]), n.Sub(n, s).FillBytes(make([]byte, 32))...)
}

// RFC 8032, section 7.1, tests 1 to 3, and Go's own signatures.
func TestStampsAreCheckedAsGoDoes(t *testing.T) {
	b, c := newBare(t), newChaos(4)
	yes, no := []byte{1}, []byte{0}
	for _, v := range []struct{ public, message, sig string }{
		{"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "", "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"},
		{"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72", "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"},
		{"fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82", "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"},
	} {
		b.wants(yes, "ed25519", unhex(t, v.public), unhex(t, v.message), unhex(t, v.sig))
	}
	for range 12 {
		stamp, message := c.secret(t).Stamp("test"), c.bytes(c.IntN(300))
		message = append(message, 1)
		public, sig := stamp.Public(), stamp.Sign(message)
		b.wants(yes, "ed25519", public[:], message, sig[:])
		b.wants(no, "ed25519", public[:], flip(c, message), sig[:])
		b.wants(no, "ed25519", public[:], message, flip(c, sig[:]))
		if bad := keys.StampPublic(flip(c, public[:])); !bad.Verify(message, sig) {
			b.wants(no, "ed25519", bad[:], message, sig[:])
		}
	}
}

// A chain shows the words that hashing gives, wherever it is asked to go next.
func TestChainsHandOutTheWordsOfPayword(t *testing.T) {
	t.Parallel()
	b, c := newBare(t), newChaos(5)
	be := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	for _, length := range []uint64{2, 4, 8, 64, 1024, 4096} {
		seed := payword.Word(c.bytes(32))
		for range 6 {
			var jumps []byte
			at := uint64(0)
			for at < length && len(jumps) < 4*600 {
				jump := 1 + c.Uint64N(min(length-at, 1+c.Uint64N(1+length/8)))
				at += jump
				jumps = binary.BigEndian.AppendUint32(jumps, uint32(jump))
				if c.IntN(300) == 0 {
					break
				}
			}
			want := seed.Back(length - at)
			b.wants(want[:], "words", seed[:], be(length), jumps)
		}
		one := bytes.Repeat([]byte{0, 0, 0, 1}, int(length))
		for _, n := range []uint64{1, length / 2, length - 1, length} {
			want := seed.Back(length - n)
			b.wants(want[:], "words", seed[:], be(length), one[:4*n])
		}
	}
}

func TestVarintsHaveOneForm(t *testing.T) {
	b, c := newBare(t), newChaos(6)
	for _, v := range []uint64{0, 1, 127, 128, 16383, 16384, 1<<63 - 1, 1 << 63, 1<<64 - 1} {
		text := codec.AppendUint(nil, v)
		b.wants(text, "uint", text)
	}
	for range 2000 {
		text := c.bytes(1 + c.IntN(11))
		r := codec.NewReader(text)
		r.Uvarint()
		want := text
		if r.Close() != nil {
			want = nil
		}
		b.wants(want, "uint", text)
	}
}

// The words of a frame on the wire, as world/link/serial writes it.
func TestFramesAreTheSerialLines(t *testing.T) {
	b, c := newBare(t), newChaos(7)
	for range 300 {
		f := serial.Frame{Type: serial.Data, Seq: byte(c.Uint32()), Payload: c.bytes(1 + c.IntN(250))}
		if c.IntN(3) == 0 {
			clear(f.Payload[:c.IntN(len(f.Payload))])
		}
		b.wants(f.Append(nil), "frame", []byte{f.Seq}, f.Payload)
	}
}

// Whatever comes over a wire, and whatever stands in a blob, nothing breaks.
func TestNoBytesBreakIt(t *testing.T) {
	b, c := newBare(t), newChaos(8)
	d := newTerms(t, c, 8, 4, 2)
	key, blob := d.key.Reveal(), d.blob()
	b.wants([]byte{0}, "blob", key, blob, nil)
	b.wants([]byte{1}, "blob", key, blob, blob)
	samples := d.messages(c)
	for i := range often(1500, 50_000) {
		part, input := "fuzz", c.bytes(c.IntN(600))
		switch {
		case i%2 == 0: // almost a message
			input = bytes.Clone(samples[c.IntN(len(samples))])
			for range 1 + c.IntN(3) {
				input[c.IntN(len(input))] = byte(c.Uint32())
			}
			input = input[:c.IntN(len(input)+1)]
		case i%15 == 1: // almost a blob
			part, input = "blob", flip(c, blob)[:len(blob)-c.IntN(2)*c.IntN(len(blob))]
		}
		b.ask(part, key, blob, input)
	}
}

// nm knows the symbols of an object file.
func TestTheLibraryAsksForNothing(t *testing.T) {
	t.Parallel()
	path := build(t, "plain", []string{"-Os", "-r", "-nostdlib", "-DCOINOP_STAMPS=1"})
	out, err := exec.Command("nm", "-u", path).CombinedOutput()
	if err != nil {
		t.Skipf("nm: %v %s", err, out)
	}
	for _, word := range strings.Fields(string(out)) {
		switch word {
		case "U", "memcpy", "memmove", "memset", "memcmp", "__stack_chk_fail", "_GLOBAL_OFFSET_TABLE_":
		default:
			t.Errorf("the library wants %s", word)
		}
	}
}

// figures are what TestSpeed and the README print.
func TestSpeed(t *testing.T) {
	if !*long {
		t.Skip("figures are for people, and -long")
	}
	b := newBare(t, "-O2", "-DCOINOP_STAMPS=1")
	fmt.Fprintln(b.in, "speed")
	b.in.Flush()
	for b.out.Scan() && b.out.Text() != "end" {
		t.Log(b.out.Text())
	}
}

// The words of payword's own testdata, which no Go code of this test made.
func TestPaywordTestdata(t *testing.T) {
	file, err := os.Open("../../core/channel/payword/testdata/words.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	b := newBare(t)
	be := func(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	var seed []byte
	var node, id []byte
	var epoch, length, n uint64
	seen := 0
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var text string
		switch line := lines.Text(); {
		case strings.HasPrefix(line, "node "):
			node = unhex(t, line[5:])
		case strings.HasPrefix(line, "id "):
			id = unhex(t, line[3:])
		case strings.HasPrefix(line, "chain "):
			fmt.Sscanf(line, "chain %d %d", &epoch, &length)
			tag := sha256.Sum256([]byte("coinop/payword/seed"))
			child := b.ask("derive", node, []byte("payword/chain"))
			seed = b.ask("sha256", bytes.Join([][]byte{tag[:], tag[:], child, id, be(epoch)}, nil))
		case strings.HasPrefix(line, "word "):
			fmt.Sscanf(line, "word %d %s", &n, &text)
			var jump []byte
			if n > 0 {
				jump = binary.BigEndian.AppendUint32(nil, uint32(n))
			}
			b.wants(unhex(t, text), "words", seed, be(length), jump)
			seen++
		}
	}
	if seen < 5 {
		t.Fatalf("%d words in the testdata", seen)
	}
}
