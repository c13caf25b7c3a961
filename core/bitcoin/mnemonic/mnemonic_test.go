package mnemonic_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/btcutil/v2/hdkeychain"
	"github.com/btcsuite/btcd/chaincfg/v2"

	"coinop.dev/core/bitcoin/mnemonic"
)

const about = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"

func TestTrezorsVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/bip39.txt")
	if err != nil {
		t.Fatal(err)
	}
	lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(string(text)), "\n"), func(l string) bool { return l[0] == '#' })
	count := 0
	for v := range slices.Chunk(lines, 4) {
		count++
		entropy, err := hex.DecodeString(v[0])
		if err != nil {
			t.Fatal(err)
		}
		if phrase, err := mnemonic.New(entropy); err != nil || phrase != v[1] {
			t.Errorf("entropy %s gives %q, %v; want %q", v[0], phrase, err, v[1])
		}
		if back, err := mnemonic.Entropy(v[1]); err != nil || !bytes.Equal(back, entropy) {
			t.Errorf("%q gives entropy %x, %v; want %s", v[1], back, err, v[0])
		}
		seed, err := mnemonic.ToSeed(v[1], "TREZOR")
		if err != nil || hex.EncodeToString(seed.Reveal()) != v[2] {
			t.Errorf("%q gives the wrong seed, %v", v[1], err)
			continue
		}
		root, err := hdkeychain.NewMaster(seed.Reveal(), &chaincfg.MainNetParams)
		if err != nil || root.String() != v[3] {
			t.Errorf("%q gives the wrong root key, %v", v[1], err)
		}
	}
	if count != 24 {
		t.Errorf("%d vectors; Trezor has 24", count)
	}
}

// The list is data that nobody would notice a wrong letter in.
func TestTheListIsBIP39s(t *testing.T) {
	var words []string
	entropy := make([]byte, 16)
	for i := range 2048 {
		entropy[0], entropy[1] = byte(i>>3), byte(i<<5) // word number i first
		phrase, err := mnemonic.New(entropy)
		if err != nil {
			t.Fatal(err)
		}
		word, _, _ := strings.Cut(phrase, " ")
		words = append(words, word)
	}
	if got := fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(words, "\n")+"\n"))); got != "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda" {
		t.Errorf("SHA-256 of the list is %s", got)
	}
}

func TestAWrongWordIsNamedWithItsPlaceAndNearWords(t *testing.T) {
	for _, c := range []struct {
		typed string
		place int
		near  string // the one that must be offered first
	}{
		{"abandn", 1, "abandon"},    // a letter lost
		{"abandonn", 12, "abandon"}, // one too many
		{"recieve", 3, "receive"},   // two changed about
		{"zoom", 7, "zoo"},
		{"acid1", 2, "acid"},
		{"abandoned", 5, "abandon"},
		{"knowledge", 4, "know"}, // more than two letters off, but four in common
	} {
		words := strings.Fields(about)
		words[c.place-1] = c.typed
		var wrong *mnemonic.WordError
		if err := mnemonic.Check(strings.Join(words, " ")); !errors.As(err, &wrong) {
			t.Errorf("%q: %v; want a WordError", c.typed, err)
			continue
		}
		if wrong.Word != c.typed || wrong.Place != c.place || len(wrong.Near) == 0 || wrong.Near[0] != c.near || len(wrong.Near) > 3 {
			t.Errorf("%q at %d: %v", c.typed, c.place, wrong)
		}
	}
	err := mnemonic.Check(strings.Replace(about, "about", "xqzqzqzx", 1))
	if err == nil || !strings.Contains(err.Error(), `word 12, "xqzqzqzx", is not on the list`) {
		t.Errorf("a word like no other: %v", err)
	}
}

func TestWhatIsNoPhraseIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ phrase, want string }{
		"nothing":                {"", "0 words"},
		"eleven":                 {strings.TrimSuffix(about, " about"), "11 words"},
		"twenty-seven":           {strings.Repeat("abandon ", 27), "27 words"},
		"wrong last word":        {strings.Replace(about, "about", "ability", 1), "do not fit together"},
		"two have changed":       {"winner legal thank year wave sausage worth useful legal winner thank yellow", "do not fit together"},
		"all the same":           {strings.Repeat("abandon ", 12), "do not fit together"},
		"a book":                 {strings.Repeat("abandon ", 1000), "the limit is 1024"},
		"letters of elsewhere":   {strings.Replace(about, "about", "abоut", 1), `word 12`}, // a Cyrillic o
		"bytes that are no text": {strings.Replace(about, "about", "\xff\xfe", 1), `word 12`},
	} {
		if err := mnemonic.Check(c.phrase); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
		if seed, err := mnemonic.ToSeed(c.phrase, ""); err == nil || !seed.IsZero() {
			t.Errorf("%s gives a seed", name)
		}
	}
	for _, n := range []int{0, 4, 12, 15, 17, 33, 36} {
		if _, err := mnemonic.New(make([]byte, n)); err == nil {
			t.Errorf("%d bytes of entropy are taken", n)
		}
	}
}

func TestCaseAndSpaceDoNotMatter(t *testing.T) {
	want, err := mnemonic.ToSeed(about, "TREZOR")
	if err != nil {
		t.Fatal(err)
	}
	typed := "\n  " + strings.ToUpper(strings.ReplaceAll(about, " ", " \t ")) + " \n"
	got, err := mnemonic.ToSeed(typed, "TREZOR")
	if err != nil || !bytes.Equal(got.Reveal(), want.Reveal()) {
		t.Errorf("phrase in capitals gives another seed, %v", err)
	}
	other, err := mnemonic.ToSeed(about, "trezor")
	if err != nil || bytes.Equal(other.Reveal(), want.Reveal()) {
		t.Errorf("case of the passphrase must matter: %v", err)
	}
}

func TestPassphrasesThatWalletsWouldReadDifferentlyAreRefused(t *testing.T) {
	for _, p := range []string{"é", "e\u0301", "㍍", "\xff", strings.Repeat("x", mnemonic.MaxPassphrase+1)} {
		if _, err := mnemonic.ToSeed(about, p); err == nil {
			t.Errorf("passphrase %.8q is taken", p)
		}
	}
}

func TestASeedDoesNotPrint(t *testing.T) {
	seed, err := mnemonic.ToSeed(about, "")
	if err != nil {
		t.Fatal(err)
	}
	raw := seed.Reveal()
	type wallet struct{ seed mnemonic.Seed }
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		for _, v := range []any{seed, &seed, wallet{seed}, &wallet{seed}, []mnemonic.Seed{seed}} {
			text := fmt.Sprintf(verb, v)
			if strings.Contains(text, hex.EncodeToString(raw[:4])) || strings.Contains(text, string(raw[:4])) ||
				strings.Contains(text, fmt.Sprint(raw[:4])[1:12]) {
				t.Errorf("%s of %T prints the seed: %.60q", verb, v, text)
			}
		}
	}
	if b, err := json.Marshal(seed); err == nil {
		t.Errorf("a seed marshals: %s", b)
	}
	raw[0] ^= 1
	if bytes.Equal(raw, seed.Reveal()) {
		t.Error("Reveal gives the seed itself, not a copy")
	}
	for _, n := range []int{0, 15, 65} {
		if _, err := mnemonic.SeedFromBytes(make([]byte, n)); err == nil {
			t.Errorf("a seed of %d bytes is taken", n)
		}
	}
	if back, err := mnemonic.SeedFromBytes(seed.Reveal()); err != nil || !bytes.Equal(back.Reveal(), seed.Reveal()) {
		t.Errorf("a revealed seed does not come back: %v", err)
	}
}

func TestAnyEntropyComesBackAndNoSlipOfOneWordPasses(t *testing.T) {
	rng := rand.New(rand.NewPCG(39, 0))
	unseen := 0
	const rounds = 2000
	for range rounds {
		entropy := make([]byte, 16+4*rng.IntN(5))
		for i := range entropy {
			entropy[i] = byte(rng.Uint32())
		}
		phrase, err := mnemonic.New(entropy)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := mnemonic.Entropy(phrase); err != nil || !bytes.Equal(back, entropy) {
			t.Fatalf("entropy %x comes back as %x, %v", entropy, back, err)
		}
		words := strings.Fields(phrase)
		words[rng.IntN(len(words))] = "zebra"
		if mnemonic.Check(strings.Join(words, " ")) == nil {
			unseen++
		}
	}
	// The checksum has 4 to 8 bits, so about 1 slip in 40 goes unseen.
	if unseen == 0 || unseen > rounds/20 {
		t.Errorf("%d of %d slips go unseen; about %d should", unseen, rounds, rounds/41)
	}
}

func FuzzCheck(f *testing.F) {
	f.Add(about)
	f.Add("ZOO zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo  wrong")
	f.Add(strings.Replace(about, "about", "abuot", 1))
	f.Fuzz(func(t *testing.T, phrase string) {
		entropy, err := mnemonic.Entropy(phrase)
		if (err == nil) != (mnemonic.Check(phrase) == nil) {
			t.Fatalf("Check and Entropy differ: %v", err)
		}
		if err != nil {
			if entropy != nil || len(err.Error()) > 200 {
				t.Fatalf("entropy %x with error of %d bytes", entropy, len(err.Error()))
			}
			return
		}
		again, err := mnemonic.New(entropy)
		if err != nil || again != strings.Join(strings.Fields(strings.ToLower(phrase)), " ") {
			t.Fatalf("%q comes back as %q, %v", phrase, again, err)
		}
	})
}

func BenchmarkToSeed(b *testing.B) {
	for b.Loop() {
		if _, err := mnemonic.ToSeed(about, ""); err != nil {
			b.Fatal(err)
		}
	}
}
