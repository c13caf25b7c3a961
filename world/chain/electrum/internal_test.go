package electrum

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/txscript/v2"
	"github.com/btcsuite/btcd/wire/v2"
)

func hash(t testing.TB, text string) chainhash.Hash {
	t.Helper()
	h, err := parseHash(text)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestCheckpoint is the example of cp_height in spesmilo/electrum-protocol,
// docs/protocol-methods.rst, "blockchain.block.header". The hashes are those of
// Bitcoin's first nine blocks.
func TestCheckpoint(t *testing.T) {
	t.Parallel()
	x := newIndex(&chaincfg.MainNetParams)
	for _, text := range []string{
		"00000000839a8e6886ab5951d76f411475428afc90947ee320161bbf18eb6048",
		"000000006a625f06636b8bb6ac7b960a8d03705d1ace08b1a19da3fdcc99ddbd",
		"0000000082b5015589a3fdf2d4baff403e6f0be035a5d9742c1cae6295464449",
		"000000004ebadb55ee9096c9a2f8880e09da59c0d68b1c228da88e48844a1485",
		"000000009b7262315dbf071787ad3656097b892abffd1f95a1a022f896f533fc",
		"000000003031a0e73735690c5a1ff2a4be82553b2a12b776fbd3a215dc8f778d",
		"0000000071966c2b1d065fd446b1e485b2c9d9594acd2007ccbd5441cfc89444",
		"00000000408c48f847aa786c2268fc3e6ec2af68e8468a34a28c61b7f1de0dc6",
	} {
		x.hashes = append(x.hashes, hash(t, text))
	}
	s := &Server{index: x}
	root, branch, err := s.branch(5, 8)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"000000004ebadb55ee9096c9a2f8880e09da59c0d68b1c228da88e48844a1485",
		"96cbbc84783888e4cc971ae8acf86dd3c1a419370336bb3c634c97695a8c5ac9",
		"965ac94082cebbcffe458075651e9cc33ce703ab0115c72d9e8b1a9906b2b636",
		"89e5daa6950b895190716dd26054432b564ccdc2868188ba1da76de8e1dc7591",
	}
	if root.String() != "e347b1c43fd9b5415bf0d92708db8284b78daf4d0e24f9c3405f45feb85e25db" || !reflect.DeepEqual(texts(branch), want) {
		t.Errorf("root %v, branch %v", root, branch)
	}
	for _, c := range [][2]int32{{9, 8}, {5, 9}} {
		if _, _, err := s.branch(c[0], c[1]); err == nil {
			t.Errorf("header %d is proven to a checkpoint at %d", c[0], c[1])
		}
	}
}

// TestScriptHash and TestStatus are the examples of docs/protocol-basics.rst,
// "Script Hashes" and "Status".
func TestScriptHash(t *testing.T) {
	t.Parallel()
	script, _ := hex.DecodeString("76a91462e907b15cbf27d5425399ebf6f0fb50ebb88f1888ac")
	if got := HashOf(script).String(); got != "8b01df4e368ea28f8dc0423bcf7a4923e3a12d307c875e47a0cfbf90b5c39161" {
		t.Error(got)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	var list []seen
	for _, one := range []struct {
		id     string
		height int32
	}{
		{"a6c9c361bd0bc536d6a22648efbf8f9b200e425ef6c3a7a9669dc444c532a347", 2472},
		{"9c42f84b2fcdaff676ba25d9d4941741cc0d1a01cce0c23fdc4c0b2afa38431c", 2473},
		{"770f2d4371b3fabb902dd9a103e2dd005fcd3971181078fca4a2a1d6ff127b30", 2473},
		{"80b19848aed792565ab7c5a79b7c2a00fbf985741579396ebe0ab6098e607311", 0},
		{"e02a1dadfa83b996b24175df807b271ea5d02937ef5b35c195fac1e1bdc3198f", 0},
		{"bb4c8ab438c13b89ca80d1d5bee25b0b6b7f55673f4d801998ba97db161d9e85", -1},
	} {
		list = append(list, seen{hash(t, one.id), one.height})
	}
	if got := statusText(status(list)); *got != "78e96c6562cafa71c115503b9411fdfdc595a45031e2ab76ff75162fe1b0590d" {
		t.Error(*got)
	}
	if status(nil) != nil {
		t.Error("an empty history has a status")
	}
}

// blocksOf makes a random chain of spends and payments among a few scripts.
func blocksOf(r *rand.Rand, prev chainhash.Hash, n int, coins []wire.OutPoint) []*wire.MsgBlock {
	var all []*wire.MsgBlock
	for range n {
		b := &wire.MsgBlock{Header: wire.BlockHeader{PrevBlock: prev, Nonce: r.Uint32()}}
		for i := range 1 + r.IntN(4) {
			t := wire.NewMsgTx(2)
			t.LockTime = r.Uint32()
			if i == 0 {
				t.AddTxIn(wire.NewTxIn(&wire.OutPoint{Index: 1<<32 - 1}, nil, nil))
			} else {
				for range 1 + r.IntN(2) {
					if len(coins) == 0 {
						break
					}
					k := r.IntN(len(coins))
					t.AddTxIn(wire.NewTxIn(&coins[k], nil, nil))
					coins = append(coins[:k:k], coins[k+1:]...)
				}
			}
			for range 1 + r.IntN(3) {
				script := []byte{txscript.OP_1, byte(r.IntN(5))}
				if r.IntN(6) == 0 {
					script = []byte{txscript.OP_RETURN}
				}
				t.AddTxOut(wire.NewTxOut(int64(r.IntN(1000)), script))
			}
			id := t.TxHash()
			for k := range t.TxOut {
				coins = append(coins, wire.OutPoint{Hash: id, Index: uint32(k)})
			}
			b.AddTransaction(t)
		}
		prev = b.BlockHash()
		all = append(all, b)
	}
	return all
}

// TestIndexForgets takes blocks back and compares with an index that never had
// them.
func TestIndexForgets(t *testing.T) {
	t.Parallel()
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 7))
		x, plain := newIndex(&chaincfg.RegressionNetParams), newIndex(&chaincfg.RegressionNetParams)
		trunk := blocksOf(r, x.tip(), 8, nil)
		for i, b := range trunk {
			if err := x.connect(b, touched{}); err != nil {
				t.Fatal(err)
			}
			if i < 3 {
				plain.connect(b, touched{})
			}
		}
		changed := touched{}
		for range 5 {
			x.disconnect(changed)
		}
		if !reflect.DeepEqual(x, plain) {
			t.Fatalf("seed %d: the index remembers what was taken back:\n%+v\n%+v", seed, x, plain)
		}
		other := blocksOf(r, x.tip(), 4, nil)
		for _, b := range other {
			if x.connect(b, touched{}) != nil || plain.connect(b, touched{}) != nil {
				t.Fatal("a branch does not connect")
			}
		}
		if !reflect.DeepEqual(x, plain) {
			t.Fatalf("seed %d: two indexes of one chain differ", seed)
		}
	}
	x := newIndex(&chaincfg.RegressionNetParams)
	if err := x.connect(&wire.MsgBlock{}, touched{}); err != errMoved {
		t.Errorf("a block that does not follow gives %v", err)
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	for ask, want := range map[string]string{
		`"1.4"`: "1.4", `["1.4","1.4.2"]`: "1.4.2", `["1.4","1.6"]`: "1.6", `["1.1","9.9"]`: "1.6",
		`["1.4.3","1.5"]`: "", `["1.0","1.3"]`: "", `"1.6"`: "1.6",
	} {
		lowest, highest, err := versionRange(json.RawMessage(ask))
		if err != nil {
			t.Error(err)
		}
		v, ok := choose(lowest, highest)
		if ok != (want != "") || ok && v.String() != want {
			t.Errorf("%s gives %v; want %s", ask, v, want)
		}
	}
	for _, bad := range []string{`1.4`, `"1"`, `"1.4.2.3"`, `"x.y"`, `["1.4"]`, `{}`, `"-1.4"`} {
		if _, _, err := versionRange(json.RawMessage(bad)); err == nil {
			t.Errorf("%s is a version", bad)
		}
	}
}

func TestBTC(t *testing.T) {
	t.Parallel()
	for sat, want := range map[int64]string{1000: "0.00001000", 0: "0.00000000", 123456789: "1.23456789", -5: "-0.00000005"} {
		if got := btc(sat); string(got) != want {
			t.Errorf("%d sat is %s; want %s", sat, got, want)
		}
	}
}

func TestHistoryOrder(t *testing.T) {
	t.Parallel()
	id := func(n byte) string { return strings.Repeat(fmt.Sprintf("%02x", n), 32) }
	for _, good := range [][]historyLine{
		nil, {{Height: 1, ID: id(1)}, {Height: 1, ID: id(2)}, {Height: 9, ID: id(3)}, {Height: 0, ID: id(4)}, {Height: -1, ID: id(5)}},
	} {
		if _, err := parseHistory(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range [][]historyLine{
		{{Height: 2, ID: id(1)}, {Height: 1, ID: id(2)}},
		{{Height: 2, ID: id(1)}, {Height: 2, ID: id(1)}},
		{{Height: 0, ID: id(1)}, {Height: 2, ID: id(2)}},
		{{Height: -2, ID: id(1)}},
		{{Height: 1, ID: "00"}},
	} {
		if _, err := parseHistory(bad); err == nil {
			t.Errorf("%+v is a history", bad)
		}
	}
}

func FuzzRequest(f *testing.F) {
	for _, line := range []string{
		`{"id":1,"method":"server.version","params":["x",["1.4","1.6"]]}`, `[{"id":"a","method":"server.ping"},3,null]`,
		`{"jsonrpc":"2.0","id":2,"method":"blockchain.block.headers","params":{"start_height":1,"count":2}}`,
		`{"id":{"a":1},"method":4}`, `[`, ``, `null`,
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		calls, _, no := parseRequests(line)
		if no != nil {
			return
		}
		if len(calls) > MaxBatch {
			t.Fatalf("%d calls", len(calls))
		}
		for _, c := range calls {
			if !json.Valid(c.id()) || len(c.id()) > maxID {
				t.Fatalf("id is %q", c.id())
			}
			m := methods[c.Method]
			a, no := c.args(m.params)
			if no == nil && len(a) != len(m.params) {
				t.Fatalf("%d parameters of %d", len(a), len(m.params))
			}
			for i := range a {
				a.hash(i, "x")
				a.number(i, "x", true)
				a.flag(i, "x")
				a.bytes(i, "x", 100)
				if !a.absent(i) {
					versionRange(a[i])
				}
			}
		}
	})
}

func FuzzReply(f *testing.F) {
	for _, line := range []string{
		`{"jsonrpc":"2.0","id":1,"result":{"height":3,"hex":"00"}}`, `{"id":1,"error":{"code":1,"message":"<b>dust</b>"}}`,
		`{"id":7,"error":"text"}`, `{"method":"blockchain.headers.subscribe","params":[{}]}`, `{"id":1,"result":[{"tx_hash":"00","height":-1}]}`,
		`{"id":1,"result":{"block_height":1,"pos":0,"merkle":["00"]}}`, `{"id":-1}`, `[]`,
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := parseReply(line)
		if err != nil {
			if len(err.Error()) > 100 {
				t.Fatalf("the error may have text of the line: %v", err)
			}
			return
		}
		if r.fault && len(r.reason.String()) == 0 {
			t.Fatal("a fault without a reason")
		}
		var tip tipHeader
		if json.Unmarshal(r.result, &tip) == nil {
			if list, err := parseHeaders(tip.Hex, nil); err == nil {
				var again bytes.Buffer
				for i := range list {
					again.Write(rawHeader(&list[i]))
				}
				if want, _ := hex.DecodeString(tip.Hex); !bytes.Equal(again.Bytes(), want) {
					t.Fatal("headers are not what was read")
				}
			}
		}
		var lines []historyLine
		if json.Unmarshal(r.result, &lines) == nil {
			if list, err := parseHistory(lines); err == nil && len(list) != len(lines) {
				t.Fatal("a history lost lines")
			}
		}
		var a branchAnswer
		if json.Unmarshal(r.result, &a) == nil {
			if b, err := parseBranch(a); err == nil && len(b.Hashes) != len(a.Merkle) {
				t.Fatal("a branch lost hashes")
			}
		}
		var text string
		if json.Unmarshal(r.result, &text) == nil {
			c := &conn{}
			if tx, err := c.parseTx(chainhash.Hash{}, text); err == nil {
				t.Fatalf("%v has the id 0", tx)
			}
		}
	})
}
