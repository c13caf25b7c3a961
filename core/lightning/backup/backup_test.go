package backup_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/backup"
	"coinop.dev/core/lightning/commit"
	ln "coinop.dev/core/lightning/wire"
)

func keyOf(name string) keys.Secret {
	d := keys.Digest("test", []byte(name))
	k, err := keys.SecretFromBytes(d[:])
	if err != nil {
		panic(err)
	}
	return k
}

// sample is the backup of a node with some channels.
func sample(channels int) *backup.Backup {
	b := &backup.Backup{Change: 7, Generation: 3, Chain: [32]byte{1, 2}, Next: uint64(channels) + 5}
	if channels > 0 {
		b.Channels = slices.Clone(all()[:channels])
	}
	b.Mark = b.Sum()
	return b
}

// all is made once: so many keys take a second.
var all = sync.OnceValue(func() (list []backup.Channel) {
	for i := range backup.MaxChannels {
		name := fmt.Sprint("channel ", i)
		their := commit.NewSecrets(keyOf(name + " theirs"))
		c := backup.Channel{
			Index: uint64(i + 1), Peer: keyOf(name).Public(), Address: fmt.Sprintf("10.0.0.%d:9735", i%250), Payout: append([]byte{0, 20}, make([]byte, 20)...),
			Commit: commit.Channel{
				Type: commit.Type(i % 2), Opener: commit.Owner(i / 2 % 2), Funding: wire.OutPoint{Hash: keys.Digest("test", []byte(name)), Index: uint32(i)},
				Capacity: 1_000_000 + int64(i), Local: commit.Party{Dust: 354, Delay: 144}, Remote: commit.Party{Basepoints: their.Basepoints(), Dust: 546, Delay: 720},
			},
			Check: backup.Check(commit.NewSecrets(keyOf(name)).Basepoints()),
		}
		list = append(list, c)
	}
	return list
})

// What the holder of the key sealed is what it reads, at any size.
func TestOnlyTheKeyReadsIt(t *testing.T) {
	node := keyOf("node")
	for _, channels := range []int{0, 1, 3, backup.MaxChannels} {
		for _, size := range []int{0, ln.MaxBlob} {
			b := sample(channels)
			sealed := b.Seal(node, size)
			if len(sealed) < size || len(sealed) > backup.MaxSize {
				t.Errorf("%d channels in at least %d bytes: %d", channels, size, len(sealed))
			}
			got, err := backup.Open(node, sealed)
			if err != nil || !reflect.DeepEqual(got, b) {
				t.Fatalf("%d channels: %+v, %v", channels, got, err)
			}
			if n, err := backup.Change(sealed); n != b.Change || err != nil {
				t.Errorf("the number in clear is %d, %v", n, err)
			}
			if !bytes.Equal(sealed, b.Seal(node, size)) {
				t.Error("sealed again it is different: where does the randomness come from?")
			}
		}
	}
	sealed := sample(2).Seal(node, 0)
	if _, err := backup.Open(keyOf("thief"), sealed); !errors.Is(err, backup.ErrForeign) {
		t.Errorf("another key: %v", err)
	}
	if bytes.Contains(sealed, []byte("10.0.0.1")) {
		t.Error("an address can be read")
	}
	// A blob of the size of all blobs says nothing of how many channels there are.
	if a, b := len(sample(1).Seal(node, ln.MaxBlob)), len(sample(100).Seal(node, ln.MaxBlob)); a != ln.MaxBlob || b != ln.MaxBlob {
		t.Errorf("blobs of %d and %d bytes", a, b)
	}
}

// No bit can be changed, none left out; the number in clear least of all, or a
// peer could make an old backup look new.
func TestNobodyChangesIt(t *testing.T) {
	node := keyOf("node")
	sealed := sample(1).Seal(node, 0)
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := backup.Open(node, bad); err == nil {
			t.Errorf("byte %d can be changed", i)
		}
		if _, err := backup.Open(node, sealed[:i]); err == nil {
			t.Errorf("%d bytes are enough", i)
		}
	}
	newer := bytes.Clone(sealed)
	newer[0] = 200
	if _, err := backup.Open(node, newer); !errors.Is(err, backup.ErrNewer) {
		t.Errorf("version 200: %v", err)
	}
	if _, err := backup.Open(node, make([]byte, backup.MaxSize+1)); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Errorf("too large: %v", err)
	}
}

// A nonce that serves two contents gives both away.
func TestNoNonceTwice(t *testing.T) {
	node, seen := keyOf("node"), map[string]bool{}
	for i := range 200 {
		b := sample(1)
		b.Channels[0].Commit.Capacity += int64(i) // the same change number, as after a crash
		nonce := string(b.Seal(node, 0)[9:33])
		if seen[nonce] {
			t.Fatalf("backup %d has the nonce of another", i)
		}
		seen[nonce] = true
	}
}

// Peers keep 65,531 bytes each. A node with more channels than fit gives
// different parts to different peers, and some of them have all of it.
func TestPartsMakeAWhole(t *testing.T) {
	node, b := keyOf("node"), sample(700)
	found := map[uint64]bool{}
	for _, first := range []int{0, 150, 300, 450, 600} {
		part := b.Fit(ln.MaxBlob, first)
		sealed := part.Seal(node, ln.MaxBlob)
		if len(sealed) != ln.MaxBlob || !part.Part {
			t.Fatalf("from %d on: %d bytes, part %v", first, len(sealed), part.Part)
		}
		got, err := backup.Open(node, sealed)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range got.Channels {
			found[c.Index] = true
		}
	}
	if len(found) != len(b.Channels) {
		t.Errorf("%d of %d channels are kept somewhere", len(found), len(b.Channels))
	}
	if few := sample(20).Fit(ln.MaxBlob, 13); few.Part || !reflect.DeepEqual(few, sample(20)) {
		t.Error("20 channels fit, and some were left out")
	}
}

// Whatever sizes the fields have, a full backup is within MaxSize.
func TestTheLargestFits(t *testing.T) {
	b := sample(backup.MaxChannels)
	b.Change, b.Generation, b.Next = 1<<64-1, 1<<64-1, 1<<64-1
	for i := range b.Channels {
		c := &b.Channels[i]
		c.Index = 1<<63 + uint64(i)
		c.Address, c.Payout = strings.Repeat("a", backup.MaxAddress), make([]byte, backup.MaxPayout)
		c.Commit.Capacity, c.Commit.Remote.Dust, c.Commit.Local.Dust = 21e14, 21e14, 21e14
	}
	sealed := b.Seal(keyOf("node"), 0)
	if got, err := backup.Open(keyOf("node"), sealed); err != nil || !reflect.DeepEqual(got, b) {
		t.Errorf("%d bytes: %v", len(sealed), err)
	}
}

var update = flag.Bool("update", false, "rewrite testdata")

// A backup is read years later: what version 1 wrote is read by every build.
func TestVersion1IsRead(t *testing.T) {
	const path = "testdata/version1.hex"
	if *update {
		if err := os.WriteFile(path, []byte(hex.EncodeToString(sample(3).Seal(keyOf("node"), 0))+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := backup.Open(keyOf("node"), sealed); err != nil || !reflect.DeepEqual(got, sample(3)) {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzRead(f *testing.F) {
	for _, n := range []int{0, 1, 3} {
		f.Add(sample(n).Append(nil))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := backup.Read(raw)
		if err != nil {
			return
		}
		if again := b.Append(nil); !bytes.Equal(again, raw) {
			t.Fatalf("%x is written as %x", raw, again)
		}
		part := b.Fit(1000, 3)
		if sealed := part.Seal(keyOf("node"), 0); len(sealed) > 1000 && len(part.Channels) > 0 {
			t.Fatalf("%d bytes do not fit 1000", len(sealed))
		}
	})
}

func FuzzOpen(f *testing.F) {
	f.Add(sample(1).Seal(keyOf("node"), 0))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		if b, err := backup.Open(keyOf("node"), raw); err == nil && !bytes.Equal(b.Seal(keyOf("node"), len(raw)), raw) {
			t.Fatal("somebody else can seal for us")
		}
	})
}

// Channels are found whatever place one begins at.
func TestFitIsACircle(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	b := sample(30)
	for range 200 {
		limit, first := 400+r.IntN(12_000), r.IntN(100)
		part := b.Fit(limit, first)
		if n := len(part.Seal(keyOf("node"), 0)); n > limit {
			t.Fatalf("%d bytes, and the limit is %d", n, limit)
		}
		if limit > 1000 && (len(part.Channels) == 0 || part.Part && !hasIndex(part, uint64(first%30)+1)) {
			t.Fatalf("from %d on in %d bytes: %d channels", first, limit, len(part.Channels))
		}
	}
}

func hasIndex(b *backup.Backup, index uint64) bool {
	for _, c := range b.Channels {
		if c.Index == index {
			return true
		}
	}
	return false
}
