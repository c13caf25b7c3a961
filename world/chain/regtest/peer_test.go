package regtest_test

import (
	"bytes"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/btcsuite/btcd/blockchain"
	"github.com/btcsuite/btcd/btcutil/v2/bloom"
	"github.com/btcsuite/btcd/btcutil/v2/gcs/builder"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/world/chain"
	"coinop.dev/world/chain/chaintest"
	"coinop.dev/world/chain/internal/peer"
	"coinop.dev/world/chain/regtest"
)

// drops collects why peers were lost.
type drops chan error

func newDrops() drops { return make(drops, 100) }

func (d drops) options(l regtest.Limits) regtest.Options {
	return regtest.Options{Limits: l, OnDrop: func(_ string, err error) {
		select {
		case d <- err:
		default:
		}
	}}
}

// expect waits for a drop for a reason that contains text.
func (d drops) expect(t *testing.T, text string) {
	t.Helper()
	for late := time.After(patience); ; {
		select {
		case err := <-d:
			if strings.Contains(err.Error(), text) {
				return
			}
			t.Logf("dropped: %v", err)
		case <-late:
			t.Fatalf("no peer was dropped for %q", text)
		}
	}
}

func mine(t testing.TB, n *regtest.Node, blocks int) []chainhash.Hash {
	t.Helper()
	hashes, err := n.Mine(blocks)
	if err != nil {
		t.Fatal(err)
	}
	return hashes
}

// paid mines a coin of Script(1) into a block of its own.
func paid(t testing.TB, n *regtest.Node) (wire.OutPoint, chainhash.Hash) {
	t.Helper()
	point, err := n.Faucet(chaintest.Script(1), chaintest.Value)
	if err != nil {
		t.Fatal(err)
	}
	return point, mine(t, n, 1)[0]
}

func TestHeadersAndBlocks(t *testing.T) {
	t.Parallel()
	n := open(t, regtest.Options{})
	hashes := mine(t, n, 700)
	s := greet(t, n)

	ask := wire.NewMsgGetHeaders()
	ask.BlockLocatorHashes = []*chainhash.Hash{regtest.Params().GenesisHash}
	s.say(ask)
	headers := hear[*wire.MsgHeaders](s).Headers
	if len(headers) != 700 || headers[699].BlockHash() != hashes[699] {
		t.Fatalf("%d headers; want 700", len(headers))
	}

	blocks := wire.NewMsgGetBlocks(&chainhash.Hash{})
	blocks.BlockLocatorHashes = ask.BlockLocatorHashes
	s.say(blocks)
	if inv := hear[*wire.MsgInv](s).InvList; len(inv) != wire.MaxBlocksPerMsg || inv[0].Hash != hashes[0] {
		t.Errorf("%d blocks; want %d", len(inv), wire.MaxBlocksPerMsg)
	}

	nobody := chainhash.HashH([]byte("nobody"))
	s.say(getData(wire.InvTypeWitnessBlock, hashes[3], nobody))
	if got := hear[*wire.MsgBlock](s).BlockHash(); got != hashes[3] {
		t.Errorf("block %v; want %v", got, hashes[3])
	}
	if missing := hear[*wire.MsgNotFound](s).InvList; len(missing) != 1 || missing[0].Hash != nobody {
		t.Errorf("not found are %v; want %v", missing, nobody)
	}
}

func TestAnnouncements(t *testing.T) {
	t.Parallel()
	n := open(t, regtest.Options{})
	mine(t, n, 1)
	a, b := greet(t, n), greet(t, n)
	b.say(wire.NewMsgSendHeaders())
	a.sync()
	b.sync()
	hash := mine(t, n, 1)[0]
	if inv := hear[*wire.MsgInv](a).InvList; len(inv) != 1 || inv[0].Hash != hash {
		t.Errorf("announced are %v; want block %v", inv, hash)
	}
	if h := hear[*wire.MsgHeaders](b).Headers; len(h) != 1 || h[0].BlockHash() != hash {
		t.Errorf("announced are %d headers; want that of %v (BIP 130)", len(h), hash)
	}
}

func TestRelay(t *testing.T) {
	t.Parallel()
	n := open(t, regtest.Options{})
	point, _ := paid(t, n)
	a, b := greet(t, n), greet(t, n)
	a.sync()
	b.sync()

	spend := chaintest.Spend(point, chaintest.Value, 1, 2)
	id := spend.TxHash()
	offer := wire.NewMsgInv()
	offer.InvList = []*wire.InvVect{wire.NewInvVect(wire.InvTypeTx, &id)}
	a.say(offer)
	if ask := hear[*wire.MsgGetData](a).InvList; len(ask) != 1 || ask[0].Hash != id || ask[0].Type != wire.InvTypeWitnessTx {
		t.Fatalf("asked for %v", ask)
	}
	a.say(spend)
	if inv := hear[*wire.MsgInv](b).InvList; len(inv) != 1 || inv[0].Hash != id {
		t.Fatalf("relayed are %v; want %v", inv, id)
	}
	b.say(getData(wire.InvTypeWitnessTx, id))
	if got := hear[*wire.MsgTx](b); got.WitnessHash() != spend.WitnessHash() {
		t.Error("the witness was lost on the way")
	}
	b.say(getData(wire.InvTypeTx, id))
	if got := hear[*wire.MsgTx](b); got.TxHash() != id || got.HasWitness() {
		t.Error("a witness was sent to who did not ask for it (BIP 144)")
	}
	b.say(wire.NewMsgMemPool())
	if inv := hear[*wire.MsgInv](b).InvList; len(inv) != 1 || inv[0].Hash != id {
		t.Errorf("mempool is %v; want %v", inv, id)
	}

	rival := chaintest.Spend(point, chaintest.Value, 1, 3)
	a.say(rival)
	if no := hear[*wire.MsgReject](a); no.Hash != rival.TxHash() || no.Cmd != wire.CmdTx || no.Reason == "" {
		t.Errorf("reject is %+v (BIP 61)", no)
	}
}

func TestSubmittedBlocks(t *testing.T) {
	t.Parallel()
	theirs, d := open(t, regtest.Options{}), newDrops()
	mine(t, theirs, 3)
	n := open(t, d.options(regtest.Limits{}))
	mine(t, n, 2)
	var blocks []*wire.MsgBlock
	from := greet(t, theirs)
	ask := wire.NewMsgGetHeaders()
	ask.BlockLocatorHashes = []*chainhash.Hash{regtest.Params().GenesisHash}
	from.say(ask)
	headers := hear[*wire.MsgHeaders](from)
	for _, h := range headers.Headers {
		from.say(getData(wire.InvTypeWitnessBlock, h.BlockHash()))
		blocks = append(blocks, hear[*wire.MsgBlock](from))
	}

	// Two of the three make no more work than the node has, the third does.
	s := greet(t, n)
	s.say(headers)
	got := hear[*wire.MsgGetData](s)
	if len(got.InvList) != 3 {
		t.Fatalf("asked for %d blocks; want 3", len(got.InvList))
	}
	changed := n.Changed()
	s.say(blocks[2]) // its parents are unknown, so it must come again
	s.say(blocks[0], blocks[1], blocks[2])
	<-changed
	if err := chaintest.Agree(t.Context(), n, theirs); err != nil {
		t.Fatal(err)
	}

	bad := *blocks[2]
	bad.Header.MerkleRoot[0] ^= 1
	for bad.Header.Nonce = 0; !easy(&bad.Header); bad.Header.Nonce++ {
	}
	s.say(&bad)
	if no := hear[*wire.MsgReject](s); no.Cmd != wire.CmdBlock || no.Hash != bad.BlockHash() {
		t.Errorf("reject is %+v", no)
	}
	d.expect(t, "misbehaved")
}

func easy(h *wire.BlockHeader) bool {
	hash := h.BlockHash()
	return blockchain.HashToBig(&hash).Cmp(regtest.Params().PowLimit) <= 0
}

func TestBloomFilter(t *testing.T) {
	t.Parallel()
	n := open(t, regtest.Options{})
	point, block := paid(t, n)
	s := greet(t, n)
	s.say(getData(wire.InvTypeFilteredBlock, block))
	hear[*wire.MsgNotFound](s) // no filter yet

	f := bloom.NewFilter(10, 1, 0.0001, wire.BloomUpdateAll)
	f.Add(chaintest.Script(1)[2:])
	s.say(f.MsgFilterLoad(), getData(wire.InvTypeFilteredBlock, block))
	proof := hear[*wire.MsgMerkleBlock](s)
	if proof.Header.BlockHash() != block || proof.Transactions != 2 {
		t.Errorf("proof is of block %v with %d transactions", proof.Header.BlockHash(), proof.Transactions)
	}
	if got := hear[*wire.MsgTx](s); got.TxHash() != point.Hash {
		t.Errorf("matched %v; want %v", got.TxHash(), point.Hash)
	}

	// BloomUpdateAll has put the coin into the filter, so its spend matches.
	spend := chaintest.Spend(point, chaintest.Value, 1, 2)
	if err := n.Publish(t.Context(), spend); err != nil {
		t.Fatal(err)
	}
	if inv := hear[*wire.MsgInv](s).InvList; inv[0].Hash != spend.TxHash() {
		t.Errorf("relayed is %v; want %v", inv[0], spend.TxHash())
	}
	s.say(&wire.MsgFilterClear{}, getData(wire.InvTypeFilteredBlock, block))
	hear[*wire.MsgNotFound](s)
}

func TestCompactFilters(t *testing.T) {
	t.Parallel()
	n := open(t, regtest.Options{})
	point, block := paid(t, n)
	mine(t, n, 1000)
	height, tip, _ := n.Tip(t.Context())
	s := greet(t, n)

	s.say(wire.NewMsgGetCFilters(wire.GCSFilterRegular, uint32(height-1000), &block))
	got := hear[*wire.MsgCFilter](s)
	filter, err := builder.BuildBasicFilter(blockOf(s, block), prevScripts(n, blockOf(s, block)))
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := filter.NBytes(); string(want) != string(got.Data) {
		t.Errorf("filter of %v is %x; want %x", block, got.Data, want)
	}
	if ok, err := filter.Match(builder.DeriveKey(&block), chaintest.Script(1)); !ok || err != nil {
		t.Errorf("filter does not match the script of %v: %v", point, err)
	}

	s.say(wire.NewMsgGetCFHeaders(wire.GCSFilterRegular, 1, &tip))
	headers := hear[*wire.MsgCFHeaders](s)
	s.say(wire.NewMsgGetCFCheckpt(wire.GCSFilterRegular, &tip))
	points := hear[*wire.MsgCFCheckpt](s).FilterHeaders
	if len(headers.FilterHashes) != int(height) || len(points) != 1 {
		t.Fatalf("%d filter hashes, %d checkpoints; want %d and 1", len(headers.FilterHashes), len(points), height)
	}
	chained := headers.PrevFilterHeader
	for _, h := range headers.FilterHashes[:1000] {
		chained = chainhash.DoubleHashH(append(h[:], chained[:]...))
	}
	if chained != *points[0] {
		t.Errorf("filter header 1000 is %v by its hashes, %v by the checkpoint", chained, points[0])
	}
}

func blockOf(s *stranger, hash chainhash.Hash) *wire.MsgBlock {
	s.t.Helper()
	s.say(getData(wire.InvTypeWitnessBlock, hash))
	return hear[*wire.MsgBlock](s)
}

func prevScripts(n *regtest.Node, b *wire.MsgBlock) (scripts [][]byte) {
	for _, t := range b.Transactions[1:] {
		for _, in := range t.TxIn {
			from, _ := n.Tx(in.PreviousOutPoint.Hash)
			scripts = append(scripts, from.TxOut[in.PreviousOutPoint.Index].PkScript)
		}
	}
	return scripts
}

func TestMisbehaviour(t *testing.T) {
	t.Parallel()
	d := newDrops()
	n := open(t, d.options(regtest.Limits{}))
	mine(t, n, 1200)
	_, tip, _ := n.Tip(t.Context())
	genesis := &regtest.Params().GenesisBlock.Header
	ping := frame("ping", make([]byte, 8))
	for _, c := range []struct {
		name string
		raw  []byte
		want string
	}{
		{"another network", slices.Concat([]byte{0xf9, 0xbe, 0xb4, 0xd9}, ping[4:]), "message is for network"},
		{"a wrong checksum", slices.Concat(ping[:31], []byte{1}), "checksum failed"},
		{"a message above the limit", slices.Concat(ping[:16], []byte{1, 9, 61, 0}, ping[20:]), "the limit is 4000000"},
		{"a filter above 36,000 bytes", frame("filterload", append([]byte{0xfd, 0xa1, 0x8c}, make([]byte, 36001+9)...)), "misbehaved"},
		{"more than 50 hash functions", frame("filterload", []byte{1, 0xff, 51, 0, 0, 0, 0, 0, 0, 0, 0}), "misbehaved"},
		{"filteradd without a filter", encoded(wire.NewMsgFilterAdd([]byte{1})), "filteradd without a filter"},
		{"headers that are not linked", encoded(&wire.MsgHeaders{Headers: []*wire.BlockHeader{genesis, genesis}}), "does not follow"},
		{"too many filters", encoded(wire.NewMsgGetCFilters(wire.GCSFilterRegular, 100, &tip)), "the limit is 1000"},
		{"a second version", encoded(hello()), "a second version"},
		{"bytes after a message", frame("ping", make([]byte, 9)), "misbehaved"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := greet(t, n)
			if _, err := s.raw.Write(c.raw); err != nil {
				t.Fatal(err)
			}
			d.expect(t, c.want)
		})
	}
}

func encoded(msg wire.Message) []byte {
	var b bytes.Buffer
	if err := wire.WriteMessage(&b, msg, peer.ProtocolVersion, regtest.Params().Net); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func TestAFilterOfNothingMatchesNothing(t *testing.T) {
	t.Parallel()
	n := open(t, regtest.Options{}) // CVE-2013-5700: a division by its size
	_, block := paid(t, n)
	s := greet(t, n)
	s.say(wire.NewMsgFilterLoad(nil, 50, 0, wire.BloomUpdateAll), getData(wire.InvTypeFilteredBlock, block))
	if proof := hear[*wire.MsgMerkleBlock](s); len(proof.Hashes) != 1 {
		t.Errorf("proof has %d hashes; want the root alone", len(proof.Hashes))
	}
}

func TestStrangers(t *testing.T) {
	t.Parallel()
	d := newDrops()
	n := open(t, d.options(regtest.Limits{MaxPeers: 2, HandshakeTimeout: 100 * time.Millisecond, MessageTimeout: 100 * time.Millisecond}))
	t.Run("a silent one is dropped", func(t *testing.T) {
		dial(t, n)
		d.expect(t, "timeout")
	})
	t.Run("one that trickles is dropped", func(t *testing.T) {
		s := greet(t, n)
		if _, err := s.raw.Write(frame("ping", make([]byte, 8))[:30]); err != nil {
			t.Fatal(err)
		}
		d.expect(t, "timeout")
	})
	t.Run("one that stops in a header is dropped", func(t *testing.T) {
		s := greet(t, n)
		if _, err := s.raw.Write(frame("ping", make([]byte, 8))[:3]); err != nil {
			t.Fatal(err)
		}
		d.expect(t, "message cut short")
	})
	t.Run("a long greeting is refused", func(t *testing.T) {
		s := dial(t, n)
		if _, err := s.raw.Write(frame("version", make([]byte, peer.MaxGreeting+1))); err != nil {
			t.Fatal(err)
		}
		d.expect(t, "the limit is 1024")
	})
	t.Run("verack comes after version", func(t *testing.T) {
		dial(t, n).say(wire.NewMsgVerAck())
		d.expect(t, "verack before version")
	})
	t.Run("a full house lets nobody in until somebody leaves", func(t *testing.T) {
		first, second := greet(t, n), greet(t, n)
		dial(t, n)
		d.expect(t, "all 2 places are taken")
		first.raw.Close()
		d.expect(t, "hung up")
		greet(t, n).sync()
		second.sync()
	})
}

func TestAnIdlePeerIsPingedThenDropped(t *testing.T) {
	t.Parallel()
	d := newDrops()
	n := open(t, d.options(regtest.Limits{IdleTimeout: 200 * time.Millisecond}))
	s := greet(t, n)
	hear[*wire.MsgPing](s)
	d.expect(t, "timeout")
}

func TestWorkIsRationed(t *testing.T) {
	t.Parallel()
	// Each block costs ten units: thirty can be had at once, and then ten a
	// second.
	n := open(t, regtest.Options{Limits: regtest.Limits{Work: 100, MaxWork: 300}})
	hash := mine(t, n, 1)[0]
	s := greet(t, n)
	started := time.Now()
	for range 4 {
		s.say(getData(wire.InvTypeBlock, hash, hash, hash, hash, hash, hash, hash, hash, hash, hash))
	}
	for range 40 {
		hear[*wire.MsgBlock](s)
	}
	if took := time.Since(started); took < 900*time.Millisecond {
		t.Errorf("40 blocks took %v; a tenth of them had to wait a second", took)
	}
}

func TestAPeerThatDoesNotReadIsDropped(t *testing.T) {
	t.Parallel()
	d := newDrops()
	n := open(t, d.options(regtest.Limits{MessageTimeout: 200 * time.Millisecond}))
	big := bigBlock(t, n)
	s := greet(t, n)
	if err := s.raw.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	ask := wire.NewMsgGetData()
	for range 1000 {
		ask.InvList = append(ask.InvList, wire.NewInvVect(wire.InvTypeWitnessBlock, &big))
	}
	s.say(ask)
	d.expect(t, "timeout")
}

// bigBlock mines a block of some 100 kB.
func bigBlock(t *testing.T, n *regtest.Node) chainhash.Hash {
	t.Helper()
	point, _ := paid(t, n)
	fat := chaintest.Spend(point, chaintest.Value, 1, 2)
	for range 900 {
		fat.AddTxOut(wire.NewTxOut(0, append([]byte{0x6a, 0x4c, 100}, make([]byte, 100)...)))
	}
	hash, err := n.MineOnly(fat)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

func TestBlocksInFlightAreBounded(t *testing.T) {
	t.Parallel()
	n := open(t, regtest.Options{})
	s := greet(t, n)
	inv := wire.NewMsgInv()
	for i := range 3000 {
		hash := chainhash.HashH([]byte{byte(i), byte(i >> 8)})
		inv.InvList = append(inv.InvList, wire.NewInvVect(wire.InvTypeBlock, &hash))
	}
	s.say(inv)
	if got := len(hear[*wire.MsgGetData](s).InvList); got != regtest.MaxInFlight {
		t.Errorf("%d blocks were asked for at once; the limit is %d", got, regtest.MaxInFlight)
	}
}

func TestTransactionsAskedForAreBounded(t *testing.T) {
	t.Parallel()
	n := open(t, regtest.Options{})
	s := greet(t, n)
	inv := wire.NewMsgInv()
	for i := range 3000 {
		hash := chainhash.HashH([]byte{byte(i), byte(i >> 8)})
		inv.InvList = append(inv.InvList, wire.NewInvVect(wire.InvTypeTx, &hash))
	}
	s.say(inv)
	if got := len(hear[*wire.MsgGetData](s).InvList); got != regtest.MaxAsked {
		t.Errorf("%d transactions were asked for at once; the limit is %d", got, regtest.MaxAsked)
	}
}

func TestMiningIsBounded(t *testing.T) {
	t.Parallel()
	n := open(t, regtest.Options{})
	for _, blocks := range []int{-1, 0, regtest.MaxMine + 1} {
		if _, err := n.Mine(blocks); err == nil {
			t.Errorf("%d blocks were mined", blocks)
		}
	}
	if err := n.Reorg(1); err == nil {
		t.Error("the first block was replaced")
	}
	if _, err := n.Faucet(chaintest.Script(1), 1<<50); err == nil {
		t.Error("the faucet gave more than there is")
	}
	if _, err := n.Faucet(chaintest.Script(1), 1); !errors.Is(err, chain.ErrRefused) {
		t.Errorf("a gift below dust gives %v; want ErrRefused", err)
	}
}

func TestInvalidate(t *testing.T) {
	t.Parallel()
	n := open(t, regtest.Options{})
	point, block := paid(t, n)
	if err := n.Invalidate(block); err != nil {
		t.Fatal(err)
	}
	waiting := n.MempoolTxs()
	if len(waiting) != 1 || waiting[0].TxHash() != point.Hash {
		t.Fatalf("%d transactions wait; want the one whose block is gone", len(waiting))
	}
	if again := mine(t, n, 1)[0]; again == block {
		t.Error("the very block that was declared invalid was mined again")
	}
	if _, depth := n.Tx(point.Hash); depth != 1 {
		t.Errorf("depth is %d; want 1", depth)
	}
}

func TestReopen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n, err := regtest.Open(regtest.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	point, _ := paid(t, n)
	height, tip, _ := n.Tip(t.Context())
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = open(t, regtest.Options{Dir: dir})
	if h, got, err := n.Tip(t.Context()); h != height || got != tip || err != nil {
		t.Errorf("tip is %d %v, error %v; want %d %v", h, got, err, height, tip)
	}
	if _, depth := n.Tx(point.Hash); depth != 1 {
		t.Errorf("depth is %d; want 1", depth)
	}
	if _, err := n.Faucet(chaintest.Script(1), chaintest.Value); err != nil {
		t.Error(err)
	}
}

func TestOpenFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := open(t, regtest.Options{Dir: dir})
	for why, o := range map[string]regtest.Options{
		"the folder is in use":       {Dir: dir},
		"the address is in use":      {Listen: n.Addr()},
		"the folder is not a folder": {Dir: "/dev/null/chain"},
	} {
		if again, err := regtest.Open(o); err == nil {
			again.Close()
			t.Errorf("opened although %s", why)
		}
	}
}

func TestATemporaryChainLeavesNothing(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	n, err := regtest.Open(regtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(tmp); len(left) > 0 || err != nil {
		t.Errorf("left behind: %v, error %v", left, err)
	}
}
