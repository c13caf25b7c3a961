package payword

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"coinop.dev/core/keys"
)

// naive is all words of a chain, w_0 to w_n.
func naive(seed Word, n int) []Word {
	words := make([]Word, n+1)
	words[n] = seed
	for i := n; i > 0; i-- {
		words[i-1] = words[i].Hash()
	}
	return words
}

func secret(t testing.TB, name string) keys.Secret {
	d := keys.Digest("payword test", []byte(name))
	s, err := keys.SecretFromBytes(d[:])
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestChainIsTheNaiveOne(t *testing.T) {
	for _, n := range []int{2, 4, 8, 16, 64, 1024, 1 << 14} {
		seed := Word{byte(n), byte(n >> 8)}
		words := naive(seed, n)
		c := NewChain(seed, uint64(n))
		if c.Word() != words[0] || c.hashes != uint64(n) {
			t.Fatalf("chain of %d: root %x after %d hashes", n, c.Word(), c.hashes)
		}
		levels := uint64(bits.Len(uint(n)) - 1)
		worst, before := uint64(0), c.hashes
		for i := 1; i <= n; i++ {
			was := c.hashes
			if got := c.Jump(1); got != words[i] {
				t.Fatalf("chain of %d: word %d is %x, want %x", n, i, got, words[i])
			}
			worst = max(worst, c.hashes-was)
			if known := c.known(); uint64(len(known)) > levels {
				t.Fatalf("chain of %d at %d remembers %v", n, i, known)
			}
		}
		if worst > levels {
			t.Errorf("chain of %d: a word cost %d hashes, more than %d", n, worst, levels)
		}
		if all := c.hashes - before; all > uint64(n)*(levels+1)/2 {
			t.Errorf("chain of %d: all words cost %d hashes", n, all)
		}
		t.Logf("chain of %d: at most %d hashes a word, %.2f on average, %d words remembered", n, worst, float64(c.hashes-before)/float64(n), levels+1)
	}
}

func TestChainJumps(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{2, 16, 256, 1 << 10} {
		seed := Word{1, byte(n)}
		words := naive(seed, n)
		for range 50 {
			c := NewChain(seed, uint64(n))
			for c.Left() > 0 {
				k := 1 + random.Uint64N(min(c.Left(), 1+random.Uint64N(uint64(n))))
				if got := c.Jump(k); got != words[c.Index()] {
					t.Fatalf("chain of %d, jump by %d to %d: wrong word", n, k, c.Index())
				}
			}
		}
		for i := 0; i <= n; i += 1 + n/200 {
			c := loadChain(seed, uint64(n), uint64(i))
			if c.Word() != words[i] || c.hashes > uint64(n-i) {
				t.Fatalf("chain of %d loaded at %d: wrong word or %d hashes", n, i, c.hashes)
			}
			whole := NewChain(seed, uint64(n))
			whole.Jump(uint64(i))
			if fmt.Sprint(c.known()) != fmt.Sprint(whole.known()) {
				t.Fatalf("chain of %d at %d: loaded knows %v, moved %v", n, i, c.known(), whole.known())
			}
		}
	}
}

func TestJumpIsCheap(t *testing.T) {
	const levels = 16
	for k := 1; k < 1<<levels; k *= 4 {
		c := NewChain(Word{7}, 1<<levels)
		before := c.hashes
		for c.Left() > 0 {
			c.Jump(uint64(k))
		}
		perWord := float64(c.hashes-before) / (1 << levels)
		limit := float64(levels-bits.Len(uint(k))+1)/2 + 1.5
		t.Logf("jumps by %5d cost %.2f hashes a word", k, perWord)
		if perWord > limit {
			t.Errorf("jumps by %d cost %.2f hashes a word, more than %.2f", k, perWord, limit)
		}
	}
}

func TestChainIsLaidOutBitByBit(t *testing.T) {
	const n = 256
	words := naive(Word{9}, n)
	c := startChain(Word{9}, n)
	for down := n; down >= 0; down -= 3 {
		c.layOut(down)
	}
	c.layOut(0)
	for i := 0; i <= n; i++ {
		if c.Word() != words[i] {
			t.Fatalf("word %d is wrong", i)
		}
		c.Jump(min(1, c.Left()))
	}
}

func TestChainNeedsTheWholeSecret(t *testing.T) {
	node, id := secret(t, "a"), ID{1}
	seeds := map[Word]bool{}
	for _, other := range []Word{Seed(node, id, 1), Seed(node, id, 2), Seed(node, ID{2}, 1), Seed(secret(t, "b"), id, 1)} {
		if seeds[other] {
			t.Error("two chains have the same seed")
		}
		seeds[other] = true
	}
}

func TestVectors(t *testing.T) {
	f, err := os.Open("testdata/words.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var node keys.Secret
	var id ID
	var epoch, length uint64
	number := func(s string) uint64 {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	raw := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	lines, checked := bufio.NewScanner(f), 0
	for lines.Scan() {
		field := strings.Fields(lines.Text())
		if len(field) == 0 || field[0] == "#" {
			continue
		}
		switch field[0] {
		case "node":
			if node, err = keys.SecretFromBytes(raw(field[1])); err != nil {
				t.Fatal(err)
			}
		case "id":
			copy(id[:], raw(field[1]))
		case "chain":
			epoch, length = number(field[1]), number(field[2])
		case "word":
			got := NewChain(Seed(node, id, epoch), length).Jump(number(field[1]))
			if hex.EncodeToString(got[:]) != field[2] {
				t.Errorf("epoch %d, length %d, word %s: got %x, want %s", epoch, length, field[1], got, field[2])
			}
			checked++
		case "settle":
			if got := SettlementID(id, number(field[1])); got.String() != field[2] {
				t.Errorf("settlement %s: got %s, want %s", field[1], got, field[2])
			}
			checked++
		default:
			t.Fatalf("line %q", lines.Text())
		}
	}
	if checked != 11 {
		t.Errorf("checked %d vectors", checked)
	}
}

// Timing is no proof, but a chain of the default length must not take seconds.
func TestDefaultLengthStartsSoon(t *testing.T) {
	began := time.Now()
	NewChain(Word{1}, DefaultLength)
	t.Logf("a chain of %d words took %v", DefaultLength, time.Since(began))
}

func BenchmarkNextWord(b *testing.B) {
	c := NewChain(Word{1}, DefaultLength)
	for b.Loop() {
		if c.Left() == 0 {
			c = loadChain(Word{1}, DefaultLength, 0)
		}
		c.Jump(1)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "words/s")
}

func BenchmarkVerifyWord(b *testing.B) {
	w, to := Word{1}, Word{1}.Hash()
	for b.Loop() {
		if w.Back(1) != to {
			b.Fatal("wrong")
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "verifies/s")
}
