package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/keys"
	core "coinop.dev/core/lightning/backup"
	"coinop.dev/core/lightning/channel"
	"coinop.dev/core/lightning/commit"
	"coinop.dev/core/lightning/node"
	"coinop.dev/world/backup"
	"coinop.dev/world/generation"
	"coinop.dev/world/store"
)

// A burnt machine: its config, its key, and a backup of two channels.
type burnt struct {
	*testing.T
	dir, config, backup string
	key                 keys.Secret
	content             *core.Backup
}

func newBurnt(t *testing.T) *burnt {
	b := &burnt{T: t, dir: t.TempDir()}
	b.config, b.backup = filepath.Join(b.dir, "coinop.toml"), filepath.Join(b.dir, "usb", "channels.backup")
	if err := os.WriteFile(b.config, []byte("version = 1\ndata = \"d\"\nbackup = \"usb/channels.backup\"\ngeneration = \"elsewhere/starts\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if b.key, err = loadKey(filepath.Join(b.dir, "d")); err != nil {
		t.Fatal(err)
	}
	b.content = &core.Backup{Change: 12, Generation: 7, Chain: *chaincfg.RegressionNetParams.GenesisHash, Next: 9}
	for i, addr := range []string{"192.0.2.7:9735", ""} {
		index := uint64(i + 1)
		peer := b.key.Derive("peer" + addr)
		b.content.Channels = append(b.content.Channels, core.Channel{
			Index: index, Peer: peer.Public(), Address: addr, Payout: tx.P2WPKH(tx.WalletKey(b.key).Public()),
			Commit: commit.Channel{
				Type: commit.Anchors, Opener: commit.Owner(i), Funding: wire.OutPoint{Index: uint32(i)}, Capacity: 500_000,
				Local: commit.Party{Dust: 354, Delay: 144}, Remote: commit.Party{Basepoints: commit.NewSecrets(peer).Basepoints(), Dust: 354, Delay: 144},
			},
			Check: core.Check(commit.NewSecrets(node.ChannelSecret(b.key, index)).Basepoints()),
		})
	}
	b.keep()
	return b
}

func (b *burnt) keep() {
	b.Helper()
	os.Remove(b.backup)
	if err := backup.File(b.backup).Write(b.content.Seal(b.key, 0)); err != nil {
		b.Fatal(err)
	}
}

// restore runs the command; the answer is its JSON.
func (b *burnt) restore(args ...string) (code int, r restoration, errs string) {
	b.Helper()
	var out, err bytes.Buffer
	code = run(b.Context(), append([]string{"restore", "-c", b.config, "--from", b.backup, "--json"}, args...), nil, &out, &err)
	if out.Len() > 0 {
		if err := json.Unmarshal(out.Bytes(), &r); err != nil {
			b.Fatalf("%v: %s", err, out.Bytes())
		}
	}
	return code, r, err.String()
}

// files is everything below the directory, to see that nothing changed.
func (b *burnt) files() (all string) {
	filepath.WalkDir(b.dir, func(path string, d fs.DirEntry, _ error) error {
		if !d.IsDir() {
			raw, _ := os.ReadFile(path)
			all += path + "\x00" + string(raw) + "\x00"
		}
		return nil
	})
	return all
}

// The drill says what would come back and from whom, and changes nothing.
func TestDrill(t *testing.T) {
	b := newBurnt(t)
	before := b.files()
	code, r, errs := b.restore("--drill")
	if code != exitOK || !r.OK || !r.Drill || len(r.Channels) != 2 || r.Change != 12 || r.Start != 7 || r.Chain != "regtest" || r.Capacity != 1_000_000 {
		t.Fatalf("exit %d: %+v %s", code, r, errs)
	}
	first, second := r.Channels[0], r.Channels[1]
	if first.Peer != b.content.Channels[0].Peer || first.Address != "192.0.2.7:9735" || first.Payout != walletAddress(tx.WalletKey(b.key).Public()) || first.Note != "" {
		t.Errorf("%+v", first)
	}
	if !strings.Contains(second.Note, "no address") {
		t.Errorf("%+v", second)
	}
	if b.files() != before {
		t.Error("the drill changed something")
	}
	var text bytes.Buffer
	r.text(&text)
	for _, line := range []string{"would be restored", "@192.0.2.7:9735", "opened by us", "opened by the peer"} {
		if !strings.Contains(text.String(), line) {
			t.Errorf("%q is not in:\n%s", line, &text)
		}
	}
	// What would not come back is found out now, not after the fire.
	b.content.Channels[0].Address = "no port"
	b.content.Channels[1].Check[0] ^= 1
	b.content.Change++
	b.keep()
	code, r, _ = b.restore("--drill")
	if code != exitFailed || r.OK || !strings.Contains(r.Channels[0].Problem, "no port") || !strings.Contains(r.Channels[1].Problem, "does not give the keys") {
		t.Errorf("exit %d: %+v", code, r)
	}
}

// Without the key, or with another one, there is nothing to be had, and none is
// made.
func TestDrillWithoutTheKey(t *testing.T) {
	b := newBurnt(t)
	path := filepath.Join(b.dir, "d", "key")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := b.restore("--drill"); code != exitNotFound || !strings.Contains(errs, "put the machine's key there first") {
		t.Errorf("exit %d: %s", code, errs)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a key was made")
	}
	if _, err := loadKey(filepath.Join(b.dir, "d")); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := b.restore("--drill"); code != exitFailed || !strings.Contains(errs, "another key") {
		t.Errorf("exit %d: %s", code, errs)
	}
	b.backup += "x"
	if code, _, _ := b.restore("--drill"); code != exitNotFound {
		t.Errorf("no file: exit %d", code)
	}
}

// The real one fills an empty store, once, and the machine starts.
func TestRestoreIntoAnEmptyStore(t *testing.T) {
	b := newBurnt(t)
	code, r, errs := b.restore()
	if code != exitOK || r.Drill || len(r.Channels) != 2 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	c, err := readConfig(b.config)
	if err != nil {
		t.Fatal(err)
	}
	s, err := openStation(t.Context(), c, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range b.content.Channels {
		restored, err := channel.Load(s.DB, k.Index, node.ChannelSecret(b.key, k.Index))
		if err != nil || restored.Status() != channel.Stale || restored.Commit.Funding != k.Commit.Funding {
			t.Errorf("channel %d: %v", k.Index, err)
		}
	}
	if s.Engine.Start <= 7 {
		t.Errorf("start %d follows start 7", s.Engine.Start)
	}
	s.Close()
	if code, _, errs := b.restore(); code != exitRefused || !strings.Contains(errs, "2 channels") {
		t.Errorf("a second time: exit %d: %s", code, errs)
	}
}

// Somebody puts an old copy of the store back. The machine does not start; with
// --accept-stale it does, and its channels are given up before anything else.
func TestOldStoreIsRefused(t *testing.T) {
	b := newBurnt(t)
	if code, _, errs := b.restore(); code != exitOK {
		t.Fatal(errs)
	}
	c, err := readConfig(b.config)
	if err != nil {
		t.Fatal(err)
	}
	start := func() (uint64, error) {
		s, err := openStation(t.Context(), c, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			return 0, err
		}
		defer s.Close()
		return s.Engine.Start, nil
	}
	state := filepath.Join(c.Data, "state")
	copied, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	first, err := start()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(state, copied, 0o600); err != nil {
		t.Fatal(err)
	}
	var stale *generation.Stale
	if _, err := start(); !errors.As(err, &stale) || stale.Counter != first || stale.Store != first-1 {
		t.Fatalf("an old store: %v", err)
	}
	c.AcceptStale = true
	if n, err := start(); err != nil || n != first+1 {
		t.Fatalf("accepted: %d, %v", n, err)
	}
	c.AcceptStale = false
	if n, err := start(); err != nil || n != first+2 {
		t.Fatalf("afterwards: %d, %v", n, err)
	}
	db, err := store.Default.Open(c.StoreURI())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if got, err := channel.Load(db, 1, node.ChannelSecret(b.key, 1)); err != nil || got.Status() != channel.Stale {
		t.Errorf("%v", err)
	}
}
