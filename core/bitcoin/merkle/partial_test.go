package merkle_test

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/btcutil/v2"
	"github.com/btcsuite/btcd/btcutil/v2/bloom"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/merkle"
)

func parse(t testing.TB, raw []byte) *wire.MsgMerkleBlock {
	m := new(wire.MsgMerkleBlock)
	if err := m.BtcDecode(bytes.NewReader(raw), wire.ProtocolVersion, wire.BaseEncoding); err != nil {
		t.Fatal(err)
	}
	return m
}

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Real merkleblock messages, values unmodified.
var real = []struct {
	origin    string
	raw       string
	block, id string
	index     uint32
}{
	{
		"Bitcoin Core, src/test/bloom_tests.cpp, merkle_block_3_and_serialize (MIT); also btcd, bloom/merkleblock_test.go",
		"0100000079cda856b143d9db2c1caff01d1aecc8630d30625d10e8b4b8b0000000000000b50cc069d6a3e33e3ff84a5c41d9d3febe7c770fdcc96b2c3ff60abe184f196367291b4d4c86041b8fa45d630100000001b50cc069d6a3e33e3ff84a5c41d9d3febe7c770fdcc96b2c3ff60abe184f19630101",
		"000000000000dab0130bbcc991d3d7ae6b81aa6f50a798888dfe62337458dc45",
		"63194f18be0af63f2c6bc9dc0f777cbefed3d9415c4af83f3ee3a3d669c00cb5", 0,
	},
	{
		"bitcoin.org developer reference, merkleblock (MIT): the block of bloom_tests.cpp, merkle_block_4",
		"0100000082bb869cf3a793432a66e826e05a6fc37469f8efb7421dc880670100000000007f16c5962e8bd963659c793ce370d95f093bc7e367117b3c30c1f8fdd0d9728776381b4d4c86041b554b852907000000043612262624047ee87660be1a707519a443b1c1ce3d248cbfc6c15870f6c5daa2019f5b01d4195ecbc9398fbf3c3b1fa9bb3183301d7a1fb3bd174fcfa40a2b6541ed70551dd7e841883ab8f0b16bf04176b7d1480e4f0af9f3d4c3595768d06820d2a7bc994987302e5b1ac80fc425fe25f8b63169ea78e68fbaaefa59379bbf011d",
		"000000000000b731f2eef9e8c63173adfb07e41bd53eb0ef0a6b720d6cb6dea4",
		"652b0aa4cf4f17bdb31f7a1d308331bba91f3b3cbf8f39c9cb5e19d4015b9f01", 4,
	},
	{
		"gettxoutproof of block 80,000, as in rust-bitcoin, bitcoin/src/merkle_tree/block.rs (CC0)",
		"01000000ba8b9cda965dd8e536670f9ddec10e53aab14b20bacad27b9137190000000000190760b278fe7b8565fda3b968b918d5fd997f993b23674c0af3b6fde300b38f33a5914ce6ed5b1b01e32f570200000002252bf9d75c4f481ebb6278d708257d1f12beb6dd30301d26c623f789b2ba6fc0e2d32adb5f8ca820731dff234a84e78ec30bce4ec69dbd562d0b2b8266bf4e5a0105",
		"000000000043a8c0fd1d6f726790caa2a406010d19efd2780db27bdbbd93baf6",
		"5a4ebf66822b0b2d56bd9dc64ece0bc38ee7844a23ff1d7320a88c5fdb2ad3e2", 1,
	},
}

func TestRealMerkleBlocks(t *testing.T) {
	for _, c := range real {
		m := parse(t, unhex(t, c.raw))
		if hash := m.Header.BlockHash(); hash.String() != c.block {
			t.Errorf("%s: block %v", c.origin, hash)
		}
		found, err := merkle.Partial(m, merkle.MaxTxs)
		if err != nil || len(found) != 1 || found[0].Index != c.index || found[0].ID.String() != c.id {
			t.Errorf("%s: %v, %v", c.origin, found, err)
		}
	}
}

// TestTransactionOfARealBlock is that of block 80,000, whose branch is in its
// merkle block above (libbitcoin and rust-bitcoin have its bytes).
func TestTransactionOfARealBlock(t *testing.T) {
	tx := new(wire.MsgTx)
	raw := unhex(t, "0100000001a6b97044d03da79c005b20ea9c0e1a6d9dc12d9f7b91a5911c9030a439eed8f5000000004948304502206e21798a42fae0e854281abd38bacd1aeed3ee3738d9e1446618c4571d1090db022100e2ac980643b0b82c0e88ffdfec6b64e3e6ba35e7ba5fdd7d5d6cc8d25c6b241501ffffffff0100f2052a010000001976a914404371705fa9bd789a2fcd52d2c580b65d35549d88ac00000000")
	if err := tx.Deserialize(bytes.NewReader(raw)); err != nil {
		t.Fatal(err)
	}
	m := parse(t, unhex(t, real[2].raw))
	got, err := merkle.Branch{Index: 1, Hashes: []chainhash.Hash{*m.Hashes[0]}}.Root(tx)
	if err != nil || got != m.Header.MerkleRoot {
		t.Errorf("%v, %v", got, err)
	}
}

// served is the merkle block that btcutil makes of b for these transactions.
func served(b *wire.MsgBlock, wanted ...int) *wire.MsgMerkleBlock {
	f := bloom.NewFilter(uint32(len(wanted)+1), 0, 0.0000001, wire.BloomUpdateNone)
	for _, i := range wanted {
		id := b.Transactions[i].TxHash()
		f.AddHash(&id)
	}
	m, _ := bloom.NewMerkleBlock(btcutil.NewBlock(b), f)
	return m
}

func TestPartialTreesOfBtcutil(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for n := 1; n < 60; n++ {
		b := block(txs(n))
		for range 5 {
			wanted := rnd.Perm(n)[:rnd.IntN(min(n, 6)+1)]
			slices.Sort(wanted)
			found, err := merkle.Partial(served(b, wanted...), merkle.MaxTxs)
			if err != nil || len(found) != len(wanted) {
				t.Fatalf("%v of %d transactions: %v, %v", wanted, n, found, err)
			}
			for i, m := range found {
				if int(m.Index) != wanted[i] || m.ID != b.Transactions[wanted[i]].TxHash() {
					t.Fatalf("%v of %d transactions: %v", wanted, n, found)
				}
			}
		}
	}
}

func TestForgedPartialTrees(t *testing.T) {
	b := block(txs(7))
	_, mined := below(t)
	var node bytes.Buffer
	_ = mined.Serialize(&node)
	for _, c := range []struct {
		name  string
		want  string
		forge func(m *wire.MsgMerkleBlock)
	}{
		{"no transactions", "has 1 to 16666", func(m *wire.MsgMerkleBlock) { m.Transactions = 0 }},
		{"more than fit into a block", "has 1 to 16666", func(m *wire.MsgMerkleBlock) { m.Transactions = merkle.MaxTxs + 1 }},
		{"as many as a number holds", "has 1 to 16666", func(m *wire.MsgMerkleBlock) { m.Transactions = 1<<32 - 1 }},
		{"more hashes than transactions", "of 3 transactions", func(m *wire.MsgMerkleBlock) { m.Transactions = 3 }},
		{"fewer bits than hashes", "has 0 bits", func(m *wire.MsgMerkleBlock) { m.Flags = nil }},
		{"bits run out", "ask for more", func(m *wire.MsgMerkleBlock) {
			m.Transactions, m.Flags = 16000, []byte{0xff}
		}},
		{"hashes run out", "bits ask for more", func(m *wire.MsgMerkleBlock) { m.Hashes = m.Hashes[:3] }},
		{"a hash too many", "bits ask for 4", func(m *wire.MsgMerkleBlock) { m.Hashes = append(m.Hashes, m.Hashes[0]) }},
		{"a byte of bits too many", "ask for 7 bits", func(m *wire.MsgMerkleBlock) { m.Flags = append(m.Flags, 0) }},
		{"bits that nobody asks for", "last byte are 0", func(m *wire.MsgMerkleBlock) { m.Flags[0] |= 0x80 }},
		{"another transaction", "hashes to", func(m *wire.MsgMerkleBlock) { m.Hashes[1] = &chainhash.Hash{1} }},
		{"another match", "", func(m *wire.MsgMerkleBlock) { m.Flags[0] ^= 1 << 3 }},
		{"another number of transactions", "ask for more", func(m *wire.MsgMerkleBlock) {
			*m = *served(b, 6)
			m.Transactions = 8
		}},
		{"a row more", "", func(m *wire.MsgMerkleBlock) { m.Transactions = 9 }},
		{"a node for a transaction", "", func(m *wire.MsgMerkleBlock) { m.Transactions = 4 }},
		{"another root", "the header says", func(m *wire.MsgMerkleBlock) { m.Header.MerkleRoot[0] ^= 1 }},
		{"a payment below a transaction", "CVE-2017-12842", func(m *wire.MsgMerkleBlock) {
			left, right := chainhash.Hash(node.Bytes()[:32]), chainhash.Hash(node.Bytes()[32:])
			*m = wire.MsgMerkleBlock{Transactions: 2, Hashes: []*chainhash.Hash{&left, &right}, Flags: []byte{3}}
			m.Header.MerkleRoot = mined.TxHash() // of the block that has only this one
		}},
		{"the last transaction again", "CVE-2012-2459", func(m *wire.MsgMerkleBlock) {
			// The blocks of 7 and 8 transactions, the last one twice, have one root.
			again := block(append(txs(7), txs(7)[6]))
			*m = *served(again, 7)
			m.Header.MerkleRoot = b.Header.MerkleRoot
		}},
	} {
		m := served(b, 2)
		c.forge(m)
		found, err := merkle.Partial(m, merkle.MaxTxs)
		if found != nil {
			t.Errorf("%s: matches %v", c.name, found)
		}
		wantLie(t, c.name, err, c.want)
	}
}

// FuzzPartial shows trees of any shape for a known block: whatever is proven is
// in it.
func FuzzPartial(f *testing.F) {
	b := block(txs(7))
	for i := range b.Transactions {
		f.Add(encoded(f, served(b, i)))
	}
	f.Add(encoded(f, served(b)))
	f.Add(encoded(f, served(b, 0, 1, 2, 3, 4, 5, 6)))
	for _, c := range real {
		f.Add(unhex(f, c.raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := new(wire.MsgMerkleBlock)
		if m.BtcDecode(bytes.NewReader(raw), wire.ProtocolVersion, wire.BaseEncoding) != nil {
			return
		}
		_, _ = merkle.Partial(m, merkle.MaxTxs)
		m.Header.MerkleRoot = b.Header.MerkleRoot
		found, err := merkle.Partial(m, merkle.MaxTxs)
		if err != nil {
			return
		}
		for _, x := range found {
			if x.Index > 6 || x.ID != b.Transactions[x.Index].TxHash() {
				t.Fatalf("%+v of %d is proven", x, m.Transactions)
			}
		}
	})
}

func encoded(t testing.TB, m *wire.MsgMerkleBlock) []byte {
	var b bytes.Buffer
	if err := m.BtcEncode(&b, wire.ProtocolVersion, wire.BaseEncoding); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
