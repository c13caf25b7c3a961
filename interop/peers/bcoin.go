package peers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// ErrNoNode says that a program needs Node.js, which is not there.
var ErrNoNode = errors.New("no Node.js: install nodejs and npm")

// BcoinOptions are what a bcoin is started with.
type BcoinOptions struct {
	Home    string // its folder; it keeps nothing there
	Connect string // its only peer, which serves BIP 37
}

// A Bcoin is a running bcoin SPV node with one key: the program in
// interop/bcoin.
type Bcoin struct {
	*Process
	in io.WriteCloser

	mu      sync.Mutex
	events  []BcoinEvent
	answers chan BcoinEvent
}

// A BcoinEvent is what bcoin has seen: "connect", "disconnect" or "reset" of a
// block, or "tx", a transaction without one.
type BcoinEvent struct {
	Event  string
	Height int64
	Hash   string   // of the block
	Proven []string // transactions that its Merkle proof leads to
	Txs    []string // transactions that came with it
	ID     string   // of a transaction

	Script, Error string // of an answer
}

// StartBcoin installs and runs a bcoin. The error is ErrNoNode where it cannot
// be run.
func StartBcoin(ctx context.Context, o BcoinOptions) (*Bcoin, error) {
	script, err := InstallNode(ctx, "bcoin", "spv.js")
	if err != nil {
		return nil, err
	}
	http, err := FreeAddr()
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(http)
	if err != nil {
		return nil, err
	}
	b := &Bcoin{answers: make(chan BcoinEvent, 1)}
	b.Process = prepare(ctx, "bcoin", "node", o.Home, script, o.Connect, port)
	if b.in, err = b.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	b.cmd.Stdout = &lines{each: b.hear}
	if err := b.run(); err != nil {
		return nil, err
	}
	err = b.await(ctx, "it is open", func() error {
		if _, open := b.last("open"); !open {
			return errors.New("it has not said so")
		}
		return nil
	})
	if err != nil {
		b.Kill()
		return nil, fmt.Errorf("%w\n%s", err, b.Log())
	}
	return b, nil
}

// InstallNode gets the packages of npm at the versions that a folder of interop
// pins, unless they lie in the user's cache folder from an earlier time, and
// returns the program of that folder beside them. Nothing of it is compiled. The
// error is ErrNoNode where Node.js is missing.
func InstallNode(ctx context.Context, name, program string) (script string, err error) {
	if _, err := exec.LookPath("node"); err != nil {
		return "", fmt.Errorf("install %s: %w", name, ErrNoNode)
	}
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "coinop.dev/interop").Output()
	if err != nil {
		return "", fmt.Errorf("install %s: run this from a folder below interop: %w", name, err)
	}
	sum := sha256.New()
	files := map[string][]byte{}
	for _, file := range []string{"package.json", "package-lock.json", program} {
		if files[file], err = os.ReadFile(filepath.Join(strings.TrimSpace(string(root)), name, file)); err != nil {
			return "", err
		}
		sum.Write(files[file])
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	cache = filepath.Join(cache, "coinop-interop")
	folder := filepath.Join(cache, fmt.Sprintf("%s-%x", name, sum.Sum(nil)[:8]))
	script = filepath.Join(folder, program)
	if _, err := os.Stat(script); err == nil {
		return script, nil
	}
	if _, err := exec.LookPath("npm"); err != nil {
		return "", fmt.Errorf("install %s: %w", name, ErrNoNode)
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	fresh, err := os.MkdirTemp(cache, name+"-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(fresh)
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(fresh, file), text, 0o644); err != nil {
			return "", err
		}
	}
	get := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
	get.Dir = fresh
	if out, err := get.CombinedOutput(); err != nil {
		return "", fmt.Errorf("install %s: %w: %s", name, err, out)
	}
	// Two tests may install at once; the second finds the first one's folder.
	if err := os.Rename(fresh, folder); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	return script, nil
}

// hear takes one line of what bcoin prints: an object of ours, or its log.
func (b *Bcoin) hear(line []byte) {
	var e BcoinEvent
	if json.Unmarshal(line, &e) != nil {
		if !bytes.Contains(line, []byte("Unknown version bits")) { // once for every block
			fmt.Fprintf(&b.log, "%s\n", line)
		}
		return
	}
	if e.Event == "answer" {
		b.answers <- e
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, e)
}

// Events is all that bcoin has seen, in order.
func (b *Bcoin) Events() []BcoinEvent {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.events)
}

func (b *Bcoin) last(event string) (BcoinEvent, bool) {
	for _, e := range slices.Backward(b.Events()) {
		if e.Event == event {
			return e, true
		}
	}
	return BcoinEvent{}, false
}

// ask has bcoin do one thing after another.
func (b *Bcoin) ask(ctx context.Context, what map[string]any) (e BcoinEvent, err error) {
	line, err := json.Marshal(what)
	if err != nil {
		return e, err
	}
	if _, err := b.in.Write(append(line, '\n')); err != nil {
		return e, err
	}
	select {
	case e = <-b.answers:
	case <-b.done:
		return e, fmt.Errorf("bcoin has ended (%v)\n%s", b.err, b.Log())
	case <-ctx.Done():
		return e, ctx.Err()
	}
	if e.Error != "" {
		return e, fmt.Errorf("bcoin: %v: %s", what["do"], e.Error)
	}
	return e, nil
}

// Tip is the best block of bcoin's chain.
func (b *Bcoin) Tip(ctx context.Context) (height int64, hash string, err error) {
	e, err := b.ask(ctx, map[string]any{"do": "tip"})
	return e.Height, e.Hash, err
}

// Watch puts bcoin's key into the filter that its peer is sent, and returns the
// script to pay to (P2WPKH).
func (b *Bcoin) Watch(ctx context.Context) (script []byte, err error) {
	e, err := b.ask(ctx, map[string]any{"do": "watch"})
	if err != nil {
		return nil, err
	}
	return hex.DecodeString(e.Script)
}

// Spend sends an output that bcoin has seen back to its own address, less a fee
// in satoshi, and returns the transaction's id.
func (b *Bcoin) Spend(ctx context.Context, id string, index uint32, fee int64) (spend string, err error) {
	e, err := b.ask(ctx, map[string]any{"do": "spend", "id": id, "index": index, "fee": fee})
	return e.ID, err
}

// Stop ends bcoin, which goes when nobody speaks to it.
func (b *Bcoin) Stop() {
	b.in.Close()
	b.Process.Stop()
}

// lines is a writer that hands on whole lines. One without an end would grow
// until its process is stopped; only programs of ours write to it.
type lines struct {
	part []byte
	each func(line []byte)
}

func (l *lines) Write(text []byte) (int, error) {
	l.part = append(l.part, text...)
	for {
		line, rest, whole := bytes.Cut(l.part, []byte{'\n'})
		if !whole {
			return len(text), nil
		}
		l.each(line)
		l.part = rest
	}
}
