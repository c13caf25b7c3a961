package electrum_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/world/chain"
	"coinop.dev/world/chain/chaintest"
	"coinop.dev/world/chain/electrum"
	"coinop.dev/world/chain/regtest"
)

// lie is what a client has caught, or nil.
func lie(err error) *electrum.Lie {
	l := (*electrum.Lie)(nil)
	errors.As(err, &l)
	return l
}

func until(t *testing.T, what string, ask func() bool) {
	t.Helper()
	for late := time.Now().Add(chaintest.Patience); !ask(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("not in time: " + what)
		}
	}
}

// paid mines a coin that any program may spend.
func paid(t *testing.T, n *regtest.Node, to byte) watch.Output {
	t.Helper()
	point, err := n.Faucet(chaintest.Script(to), chaintest.Value)
	must(t, err)
	mine(t, n, 1)
	return watch.Output{Point: point, Script: chaintest.Script(to)}
}

func mine(t *testing.T, n *regtest.Node, blocks int) {
	t.Helper()
	_, err := n.Mine(blocks)
	must(t, err)
}

// honest is a node and a server of it.
func honest(t *testing.T) (*regtest.Node, string) {
	t.Helper()
	n := openNode(t)
	return n, serve(t, electrum.ServerOptions{Source: n}).Addr()
}

func coinsOf(t *testing.T, c *electrum.Client, to byte) []watch.Coin {
	t.Helper()
	coins, err := c.Coins(t.Context(), chaintest.Script(to))
	must(t, err)
	return coins
}

const phishing = `<b>Update required!</b> <a href="https://electrum.evil.example/download">https://electrum.evil.example</a>`

// TestAttackPhishingText is the attack of December 2018: servers answered with a
// page that sent people to a forged wallet.
func TestAttackPhishingText(t *testing.T) {
	t.Parallel()
	n, addr := honest(t)
	o := paid(t, n, 1)
	evil := liar(t, addr, func(s *say) bool {
		switch s.method {
		case "server.version":
			s.Result.([]any)[0] = phishing
		case "blockchain.transaction.broadcast":
			s.Error, s.Result = map[string]any{"code": 1, "message": phishing + " conflict " + strings.Repeat("!", 5000)}, nil
		case "blockchain.transaction.get":
			s.Error, s.Result = phishing, nil // not even the shape of an error
		}
		return true
	})
	down := &troubles{}
	c := open(t, down, evil)
	must(t, chaintest.Agree(t.Context(), c, n))
	err := c.Publish(t.Context(), chaintest.Spend(o.Point, chaintest.Value, 1, 2))
	if !errors.Is(err, chain.ErrRefused) {
		t.Fatalf("the refusal is %v", err)
	}
	fault := (*electrum.Fault)(nil)
	if !errors.As(err, &fault) || fault.Reason != electrum.Conflict {
		t.Errorf("the reason is %v", fault)
	}
	_, other := c.Status(t.Context(), o)
	for _, err := range append(down.all(), err, other) {
		text := fmt.Sprintf("%v %+v %#v", err, err, err)
		for _, word := range []string{"<", "evil", "href", "Update", "!!"} {
			if err != nil && strings.Contains(strings.ReplaceAll(text, "<nil>", ""), word) {
				t.Errorf("%q of the server's text is in %s", word, text)
			}
		}
	}
}

func TestAttackForgedBranch(t *testing.T) {
	t.Parallel()
	n, addr := honest(t)
	paid(t, n, 1)
	evil := liar(t, addr, func(s *say) bool {
		if m, ok := s.Result.(map[string]any); ok && s.method == "blockchain.transaction.get_merkle" {
			m["merkle"].([]any)[0] = chainhash.HashH([]byte("forged")).String()
		}
		return true
	})
	down := &troubles{}
	c := open(t, down, evil)
	must(t, chaintest.Agree(t.Context(), c, n))
	if coins, err := c.Coins(t.Context(), chaintest.Script(1)); err == nil {
		t.Errorf("coins with a forged proof: %v", coins)
	}
	down.lies(t, electrum.BadBranch, evil, c)
	both := open(t, down, evil, addr)
	must(t, chaintest.Agree(t.Context(), both, n))
	until(t, "the honest server's word counts", func() bool {
		coins, err := both.Coins(t.Context(), chaintest.Script(1))
		return err == nil && len(coins) == 1 && coins[0].Depth == 1
	})
}

// TestAttack64ByteTransaction shows a transaction that could as well be a node of
// a Merkle tree (CVE-2017-12842): its branch is right, and proves nothing.
func TestAttack64ByteTransaction(t *testing.T) {
	t.Parallel()
	n, addr := honest(t)
	o := paid(t, n, 1)
	small := []byte{txscript.OP_NOP, txscript.OP_NOP, txscript.OP_NOP, txscript.OP_TRUE}
	spend := chaintest.Spend(o.Point, chaintest.Value, 1, 2)
	spend.TxOut[0].PkScript = small
	if size := spend.SerializeSizeStripped(); size != 64 {
		t.Fatalf("the transaction has %d bytes", size)
	}
	_, err := n.MineOnly(spend)
	must(t, err)
	down := &troubles{}
	c := open(t, down, addr)
	must(t, chaintest.Agree(t.Context(), c, n))
	if coins, err := c.Coins(t.Context(), small); err == nil {
		t.Errorf("a transaction of 64 bytes is believed: %v", coins)
	}
	down.lies(t, electrum.BadBranch, addr, c)
}

func TestAttackLowWorkFork(t *testing.T) {
	t.Parallel()
	n, addr := honest(t)
	paid(t, n, 1)
	mine(t, n, 5)
	fork, evil := honest(t) // a chain of its own, with less work
	paid(t, fork, 2)
	mine(t, fork, 2)
	down := &troubles{}
	c := open(t, down, evil, addr)
	must(t, chaintest.Agree(t.Context(), c, n))
	until(t, "the fork is noticed", func() bool {
		c.Coins(t.Context(), chaintest.Script(2))
		for _, err := range down.all() {
			if errors.As(err, new(*electrum.LowWork)) {
				return true
			}
		}
		return false
	})
	if coins := coinsOf(t, c, 2); len(coins) != 0 {
		t.Errorf("coins of a lighter fork: %v", coins)
	}
	if coins := coinsOf(t, c, 1); len(coins) != 1 {
		t.Errorf("coins of the heavier chain: %v", coins)
	}
	// Work decides, not who was first.
	mine(t, fork, 10)
	must(t, chaintest.Agree(t.Context(), c, fork))
	until(t, "the heavier chain's coins", func() bool {
		coins, err := c.Coins(t.Context(), chaintest.Script(2))
		return err == nil && len(coins) == 1
	})
	if coins := coinsOf(t, c, 1); len(coins) != 0 {
		t.Errorf("coins of what is the lighter fork now: %v", coins)
	}
}

// TestAttackHeaderWithoutWork shows a tip that nobody has mined.
func TestAttackHeaderWithoutWork(t *testing.T) {
	t.Parallel()
	n, addr := honest(t)
	mine(t, n, 3)
	evil := liar(t, addr, func(s *say) bool {
		m, _ := s.Result.(map[string]any)
		easier := func(text any) string {
			raw, _ := hex.DecodeString(text.(string))
			raw[75] = 0x1d // bits of another difficulty
			return hex.EncodeToString(raw)
		}
		switch s.method {
		case "blockchain.headers.subscribe":
			m["hex"] = easier(m["hex"])
		case "blockchain.block.headers":
			list := m["headers"].([]any)
			list[len(list)-1] = easier(list[len(list)-1])
		}
		return true
	})
	down := &troubles{}
	c := open(t, down, evil)
	down.lies(t, electrum.BadHeader, evil, c)
	if height, _, err := c.Tip(t.Context()); err == nil {
		t.Errorf("the tip is %d", height)
	}
}

// withhold leaves out what a twist's server has of a script.
func withhold(s *say) bool {
	switch s.method {
	case "blockchain.scripthash.get_history":
		s.Result = []any{}
	case "blockchain.scripthash.subscribe":
		s.Result = nil
	}
	return true
}

func TestAttackWithheldHistory(t *testing.T) {
	t.Parallel()
	n, addr := honest(t)
	o := paid(t, n, 1)
	evil := liar(t, addr, withhold)
	down := &troubles{}
	c := open(t, down, evil, addr)
	must(t, chaintest.Agree(t.Context(), c, n))
	until(t, "the coin is seen although one server hides it", func() bool {
		coins, err := c.Coins(t.Context(), chaintest.Script(1))
		return err == nil && len(coins) == 1 && coins[0].Point == o.Point
	})
	down.lies(t, electrum.Withheld, evil, c)

	// Alone, nobody can tell: the reason for the second server.
	alone := open(t, &troubles{}, evil)
	must(t, chaintest.Agree(t.Context(), alone, n))
	if coins := coinsOf(t, alone, 1); len(coins) != 0 {
		t.Errorf("%v", coins)
	}
}

// TestAttackWithheldSpend hides only that the coin is spent.
func TestAttackWithheldSpend(t *testing.T) {
	t.Parallel()
	n, addr := honest(t)
	o := paid(t, n, 1)
	spend := chaintest.Spend(o.Point, chaintest.Value, 1, 2)
	_, err := n.MineOnly(spend)
	must(t, err)
	evil := liar(t, addr, func(s *say) bool {
		if list, ok := s.Result.([]any); ok && s.method == "blockchain.scripthash.get_history" {
			s.Result = list[:1]
		}
		return true
	})
	down := &troubles{}
	c := open(t, down, addr, evil)
	must(t, chaintest.Agree(t.Context(), c, n))
	_, err = chaintest.Await(t.Context(), c, o, func(w watch.Status) bool { return w.SpendDepth == 1 })
	must(t, err)
	down.lies(t, electrum.Withheld, evil, c)
}

// TestAttackInventedTransaction shows payments that never were.
func TestAttackInventedTransaction(t *testing.T) {
	t.Parallel()
	invented := wire.NewMsgTx(2)
	invented.AddTxIn(wire.NewTxIn(&wire.OutPoint{Hash: chainhash.HashH([]byte("nothing"))}, nil, nil))
	invented.AddTxOut(wire.NewTxOut(1e8, chaintest.Script(1)))
	id := invented.TxHash().String()
	for name, c := range map[string]struct {
		kind  electrum.Kind
		twist func(s *say, real string)
	}{
		"with a branch of another": {electrum.BadBranch, func(s *say, real string) {
			switch s.method {
			case "blockchain.transaction.get_merkle":
				s.Error, s.Result = nil, map[string]any{"block_height": 102, "pos": 0, "merkle": []string{}}
			case "blockchain.transaction.get":
				s.Error, s.Result = nil, hex.EncodeToString(tx.Bytes(invented))
			case "blockchain.scripthash.get_history":
				s.Result = []any{map[string]any{"height": 102, "tx_hash": id}}
			}
		}},
		"under the id of a real one": {electrum.BadTx, func(s *say, real string) {
			switch s.method {
			case "blockchain.transaction.get":
				s.Result = hex.EncodeToString(tx.Bytes(invented))
			case "blockchain.scripthash.get_history":
				s.Result = []any{map[string]any{"height": 102, "tx_hash": real}}
			}
		}},
		"that is real and pays somebody else": {electrum.Irrelevant, func(s *say, real string) {
			if s.method == "blockchain.scripthash.get_history" {
				s.Result = []any{map[string]any{"height": 102, "tx_hash": real}}
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			n, addr := honest(t)
			other := paid(t, n, 2)
			if height, _, _ := n.Tip(t.Context()); height != 102 {
				t.Fatalf("the chain has %d blocks", height)
			}
			evil := liar(t, addr, func(s *say) bool {
				c.twist(s, other.Point.Hash.String())
				if s.method == "blockchain.scripthash.subscribe" {
					s.Result = strings.Repeat("ab", 32)
				}
				return true
			})
			down := &troubles{}
			client := open(t, down, evil)
			must(t, chaintest.Agree(t.Context(), client, n))
			if coins, err := client.Coins(t.Context(), chaintest.Script(1)); len(coins) > 0 {
				t.Errorf("coins are %v, error %v", coins, err)
			}
			down.lies(t, c.kind, evil, client)
		})
	}
}

// TestAttackInventedSpend hides a coin behind a waiting spend that nobody signed.
func TestAttackInventedSpend(t *testing.T) {
	t.Parallel()
	n, addr := honest(t)
	o := paid(t, n, 1)
	bad := chaintest.Spend(o.Point, chaintest.Value, 3, 2) // the witness of another script
	evil := liar(t, addr, func(s *say) bool {
		switch s.method {
		case "blockchain.scripthash.get_history":
			s.Result = append(s.Result.([]any), map[string]any{"height": 0, "fee": 1, "tx_hash": bad.TxHash().String()})
		case "blockchain.transaction.get":
			if s.params[0] == bad.TxHash().String() {
				s.Error, s.Result = nil, hex.EncodeToString(tx.Bytes(bad))
			}
		}
		return true
	})
	c := open(t, &troubles{}, evil)
	must(t, chaintest.Agree(t.Context(), c, n))
	if coins := coinsOf(t, c, 1); len(coins) != 1 || coins[0].Depth != 1 {
		t.Errorf("coins are %v", coins)
	}
}

// TestAttackEndlessLine sends a line that does not end.
func TestAttackEndlessLine(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	sent := make(chan int, 10)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			junk, total := []byte(strings.Repeat("[", 1<<16)), 0
			for err == nil {
				var m int
				m, err = conn.Write(junk)
				total += m
			}
			sent <- total
		}
	}()
	down := &troubles{}
	c := open(t, down, l.Addr().String())
	down.lies(t, electrum.BadReply, l.Addr().String(), c)
	if total := <-sent; total > 16<<20 {
		t.Errorf("%d bytes were taken", total)
	}
}

// TestAttackStall has a server that answers all but one question.
func TestAttackStall(t *testing.T) {
	t.Parallel()
	n, addr := honest(t)
	o := paid(t, n, 1)
	evil := liar(t, addr, func(s *say) bool { return s.method != "blockchain.scripthash.get_history" })
	down := &troubles{}
	c := openWithin(t, down, 500*time.Millisecond, evil, addr)
	must(t, chaintest.Agree(t.Context(), c, n))
	until(t, "the other server answers", func() bool {
		got, err := c.Status(t.Context(), o)
		return err == nil && got.Depth == 1
	})
	until(t, "the server that stalls is named", func() bool {
		c.Coins(t.Context(), o.Script)
		for _, err := range down.all() {
			if strings.Contains(err.Error(), evil) && strings.Contains(err.Error(), "does not answer in time") {
				return true
			}
		}
		return false
	})
}

// TestReconnect cuts the connection and lets the client find back, with what it
// follows.
func TestReconnect(t *testing.T) {
	t.Parallel()
	n := openNode(t)
	o := paid(t, n, 1)
	s, err := electrum.Serve(t.Context(), electrum.ServerOptions{Source: n})
	must(t, err)
	addr := s.Addr()
	c := open(t, &troubles{}, addr)
	must(t, chaintest.Agree(t.Context(), c, n))
	_, err = chaintest.Await(t.Context(), c, o, func(w watch.Status) bool { return w.Depth == 1 })
	must(t, err)
	must(t, s.Close())
	until(t, "questions are not answered", func() bool {
		_, err := c.Coins(t.Context(), chaintest.Script(9))
		return errors.Is(err, chain.ErrSyncing)
	})
	must(t, n.Reorg(1))
	mine(t, n, 1)
	again, err := electrum.Serve(t.Context(), electrum.ServerOptions{Source: n, Listen: addr})
	must(t, err)
	defer again.Close()
	must(t, chaintest.Agree(t.Context(), c, n))
	_, err = chaintest.Await(t.Context(), c, o, func(w watch.Status) bool { return w.Depth == 1 && w.Tip == 104 })
	must(t, err)
	changed := c.Changed()
	must(t, n.Publish(t.Context(), chaintest.Spend(o.Point, chaintest.Value, 1, 2)))
	select {
	case <-changed: // by the subscription that was made again
	case <-time.After(chaintest.Patience):
		t.Error("a change of the script is not told")
	}
}

// TestRefusedScript asks about a script that the server serves no history of:
// it is that script's trouble and no other's.
func TestRefusedScript(t *testing.T) {
	t.Parallel()
	n := openNode(t)
	for range 5 {
		paid(t, n, 1)
	}
	paid(t, n, 2)
	addr := serve(t, electrum.ServerOptions{Source: n, Limits: electrum.Limits{MaxHistory: 4}}).Addr()
	c := open(t, &troubles{}, addr)
	must(t, chaintest.Agree(t.Context(), c, n))
	fault := (*electrum.Fault)(nil)
	if _, err := c.Coins(t.Context(), chaintest.Script(1)); !errors.As(err, &fault) || fault.Reason != electrum.TooMuch {
		t.Errorf("a long history gives %v", err)
	}
	if coins := coinsOf(t, c, 2); len(coins) != 1 {
		t.Errorf("the other script has %v", coins)
	}
}

// TestOldCoin proves what is older than the headers that a client keeps.
func TestOldCoin(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("4,000 blocks are mined")
	}
	n := openNode(t)
	o := paid(t, n, 1)
	mine(t, n, 2016)
	mine(t, n, 2000) // a chain keeps 2,016 headers, and up to as many more
	addr := serve(t, electrum.ServerOptions{Source: n}).Addr()
	evil := liar(t, addr, func(s *say) bool {
		if s.method != "blockchain.block.headers" || s.params[0] != 102.0 {
			return true
		}
		list := s.Result.(map[string]any)["headers"].([]any)
		forged, _ := hex.DecodeString(list[0].(string))
		forged[40] ^= 1 // of the Merkle root
		list[0] = hex.EncodeToString(forged)
		return true
	})
	down := &troubles{}
	c := open(t, down, addr)
	must(t, chaintest.Agree(t.Context(), c, n))
	got, err := c.Status(t.Context(), o)
	must(t, err)
	if got.Depth != 4017 || got.Value != chaintest.Value {
		t.Errorf("the coin is %+v", got)
	}
	want, err := n.Block(t.Context(), 500)
	must(t, err)
	if h, err := c.Header(t.Context(), 500); err != nil || h.BlockHash() != want.BlockHash() {
		t.Errorf("an old header is %v, error %v", h, err)
	}
	must(t, n.Reorg(3))
	must(t, chaintest.Agree(t.Context(), c, n))
	if coins := coinsOf(t, c, 1); len(coins) != 1 {
		t.Errorf("after a reorganisation above it: %v", coins)
	}
	c = open(t, down, evil)
	must(t, chaintest.Agree(t.Context(), c, n))
	if coins, err := c.Coins(t.Context(), chaintest.Script(1)); err == nil {
		t.Errorf("a forged old header is believed: %v", coins)
	}
	down.lies(t, electrum.BadHeader, evil, c)
}
