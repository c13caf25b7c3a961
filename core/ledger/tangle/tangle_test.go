package tangle_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/tangle"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	must(t, err)
	return b
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s is %v; want %v", what, got, want)
	}
}

// refuses wants an error that has a piece of text.
func refuses(t *testing.T, what string, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: error is %v; want %q", what, err, want)
	}
}

// secret makes the key with a number.
func secret(n byte) eddsa.Secret { return eddsa.NewSecret(eddsa.SHA512, [32]byte{0: n, 31: 7}) }

func address(n byte) tangle.Address { return tangle.NewAddress(secret(n).Public()) }

// network has three coordinators, of which two must sign, and two owners of all.
func network(t testing.TB) *tangle.Network {
	t.Helper()
	keys := [][32]byte{secret(101).Public(), secret(102).Public(), secret(103).Public()}
	n, err := tangle.NewNetwork("coinop-test", "tst", 2, keys, []tangle.BasicOutput{{Amount: 1000, Address: address(1)}, {Amount: 500, Address: address(2)}})
	must(t, err)
	return n
}

// roundTrip sends a block through both of its forms.
func roundTrip(t *testing.T, b *tangle.Block) {
	t.Helper()
	raw := b.Append(nil)
	back, err := tangle.DecodeBlock(raw)
	must(t, err)
	equal(t, "block", back.Append(nil), raw)
	text, err := json.Marshal(back)
	must(t, err)
	if len(text) > tangle.MaxJSON {
		t.Errorf("the block has %d bytes of JSON; the limit says %d", len(text), tangle.MaxJSON)
	}
	var from tangle.Block
	must(t, json.Unmarshal(text, &from))
	equal(t, "block from JSON", from.Append(nil), raw)
	equal(t, "ID", from.ID(), b.ID())
	for i := range raw {
		if _, err := tangle.DecodeBlock(raw[:i]); err == nil {
			t.Fatalf("a block is read from its first %d bytes of %d", i, len(raw))
		}
	}
	if _, err := tangle.DecodeBlock(append(raw[:len(raw):len(raw)], 0)); err == nil {
		t.Error("a byte too many is read")
	}
}

// TestTransfer pays from two addresses, one of which holds two outputs, and then
// somebody tries everything that is not allowed.
func TestTransfer(t *testing.T) {
	n := network(t)
	inputs := []tangle.OutputID{tangle.GenesisOutput(0), tangle.GenesisOutput(1), tangle.NewOutputID(tangle.TransactionID{9}, 3)}
	spent := []tangle.BasicOutput{n.Genesis[0], n.Genesis[1], {Amount: 5, Address: address(1)}}
	order := &tangle.TaggedData{Tag: []byte("coinop"), Data: []byte("order 17")}
	essence, err := tangle.NewEssence(n, inputs, spent, []tangle.BasicOutput{{Amount: 1500, Address: address(3)}, {Amount: 5, Address: address(1)}}, order)
	must(t, err)
	tx, err := essence.Sign(spent, secret(2), secret(1))
	must(t, err)
	must(t, tx.Verify())
	must(t, tx.CheckSpent(spent))
	equal(t, "third unlock", tx.Unlocks[2], tangle.Unlock(tangle.ReferenceUnlock(0)))
	n.Supply = 1505 // an output more than the genesis had
	must(t, tx.Check(n))
	b := &tangle.Block{Protocol: tangle.Protocol, Parents: []tangle.BlockID{{}, {1}}, Payload: tx}
	must(t, b.Check(n))
	roundTrip(t, b)

	change := func(f func(tx *tangle.Transaction)) *tangle.Transaction {
		c, err := tangle.DecodeTransaction(tx.Append(nil))
		must(t, err)
		f(c)
		return c
	}
	for _, bad := range []struct {
		what, want string
		tx         *tangle.Transaction
	}{
		{"another network", "of network", change(func(c *tangle.Transaction) { c.Essence.NetworkID++ })},
		{"an input twice", "names an output again", change(func(c *tangle.Transaction) { c.Essence.Inputs[1] = c.Essence.Inputs[0] })},
		{"an index too large", "at most 128 outputs", change(func(c *tangle.Transaction) { c.Essence.Inputs[0] = tangle.NewOutputID(tangle.TransactionID{}, 128) })},
		{"no inputs", "0 inputs", change(func(c *tangle.Transaction) { c.Essence.Inputs = nil })},
		{"no outputs", "0 outputs", change(func(c *tangle.Transaction) { c.Essence.Outputs = nil })},
		{"an empty output", "holds nothing", change(func(c *tangle.Transaction) { c.Essence.Outputs[1].Amount = 0 })},
		{"more than there is", "only 1505 exist", change(func(c *tangle.Transaction) { c.Essence.Outputs[1].Amount = 6 })},
		{"more than a number holds", "more than a uint64", change(func(c *tangle.Transaction) { c.Essence.Outputs[1].Amount = 1<<64 - 1 })},
		{"an unlock too few", "3 inputs have 2 unlocks", change(func(c *tangle.Transaction) { c.Unlocks = c.Unlocks[:2] })},
		{"a signature twice", "refer to it", change(func(c *tangle.Transaction) { c.Unlocks[2] = c.Unlocks[0] })},
		{"a reference forward", "does not come before", change(func(c *tangle.Transaction) { c.Unlocks[1] = tangle.ReferenceUnlock(1) })},
		{"a reference to a reference", "is no signature", change(func(c *tangle.Transaction) {
			c.Unlocks[1], c.Unlocks[2] = tangle.ReferenceUnlock(0), tangle.ReferenceUnlock(1)
		})},
	} {
		refuses(t, bad.what, bad.tx.Check(n), bad.want)
	}
	other := []tangle.BasicOutput{spent[0], spent[1], {Amount: 6, Address: address(1)}}
	refuses(t, "other outputs than committed to", tx.CheckSpent(other), "commits to other outputs")
	refuses(t, "too few outputs", tx.CheckSpent(spent[:2]), "spends 2 outputs")
	refuses(t, "coins from nothing", change(func(c *tangle.Transaction) { c.Essence.Outputs[0].Amount-- }).CheckSpent(spent), "spends 1505 base units and makes 1504")
	refuses(t, "another's coins", change(func(c *tangle.Transaction) { c.Unlocks[1] = tangle.ReferenceUnlock(0) }).CheckSpent(spent), "input 1 is not unlocked")
	refuses(t, "another's payee", change(func(c *tangle.Transaction) { c.Essence.Outputs[0].Address = address(4) }).Verify(), "does not hold")
	_, err = essence.Sign(spent, secret(1))
	refuses(t, "a key that is not here", err, "whose key is not here")
	_, err = essence.Sign(other, secret(1), secret(2))
	refuses(t, "a signature of other outputs", err, "commits to other outputs")
	_, err = tangle.NewEssence(n, inputs, spent, spent[:2], nil)
	refuses(t, "something left over", err, "1505 base units go in and 1500 come out")

	t.Log("storage costs something: TIP-19, 426 virtual bytes for the smallest output")
	equal(t, "deposit", spent[0].StorageDeposit(100), uint64(42600))
	equal(t, "deposit of madness", spent[0].StorageDeposit(1<<60), ^uint64(0))
	n.StorageCost = 1
	refuses(t, "dust", tx.Check(n), "storage deposit is 426")
}

// TestMilestone: two of three coordinators sign; fewer, others, or the same one
// twice are not enough.
func TestMilestone(t *testing.T) {
	n := network(t)
	m := &tangle.Milestone{
		Index: 7, Timestamp: 1_700_000_000, Protocol: tangle.Protocol, Previous: tangle.MilestoneID{1},
		Parents: []tangle.BlockID{{1}, {2}}, InclusionRoot: tangle.Hash{3}, AppliedRoot: tangle.MerkleRoot(nil),
		Metadata: []byte("state"), Options: &tangle.ProtocolParameters{Target: 37, Protocol: 3, Params: []byte{1, 2}},
	}
	m.Sign(secret(103))
	refuses(t, "one signature", m.Verify(n), "has 1 signatures; coinop-test wants 2")
	m.Sign(secret(101), secret(103))
	must(t, m.Verify(n))
	equal(t, "signatures", len(m.Signatures), 2)
	b := &tangle.Block{Protocol: tangle.Protocol, Parents: m.Parents, Payload: m}
	must(t, b.Check(n))
	roundTrip(t, b)

	id := m.ID()
	m.Sign(secret(102))
	must(t, m.Verify(n))
	equal(t, "ID with another signature", m.ID(), id)

	b.Parents = []tangle.BlockID{{1}}
	refuses(t, "a block elsewhere", b.Check(n), "parents must be its block's")
	b.Parents = []tangle.BlockID{{1}, {3}}
	refuses(t, "a block elsewhere", b.Check(n), "parents must be its block's")
	change := func(f func(m *tangle.Milestone)) *tangle.Milestone {
		c, err := tangle.DecodeMilestone(m.Append(nil))
		must(t, err)
		f(c)
		return c
	}
	refuses(t, "a changed root", change(func(m *tangle.Milestone) { m.AppliedRoot[0] ^= 1 }).Verify(n), "does not hold")
	refuses(t, "a stranger", change(func(m *tangle.Milestone) { m.Sign(secret(1)) }).Verify(n), "no coordinator")
	refuses(t, "a signature twice", change(func(m *tangle.Milestone) { m.Signatures[1] = m.Signatures[0] }).Verify(n), "must ascend")
	refuses(t, "parents that fall", change(func(m *tangle.Milestone) { m.Parents[0][0] = 9 }).Verify(n), "must ascend")
	refuses(t, "parameters too far ahead", change(func(m *tangle.Milestone) { m.Options.Target++ }).Verify(n), "1 to 30 ahead")
	refuses(t, "parameters of the past", change(func(m *tangle.Milestone) { m.Options.Target = 7 }).Verify(n), "1 to 30 ahead")
	refuses(t, "another protocol", change(func(m *tangle.Milestone) { m.Protocol = 3 }).Verify(n), "only 2 is spoken")
}

// TestForms: blocks of every kind and size go through both forms; what is not
// a block does not.
func TestForms(t *testing.T) {
	parents := make([]tangle.BlockID, tangle.MaxParents)
	for i := range parents {
		parents[i][0] = byte(i)
	}
	roundTrip(t, &tangle.Block{Protocol: tangle.Protocol, Parents: parents, Nonce: 1<<64 - 1})
	roundTrip(t, &tangle.Block{Protocol: tangle.Protocol, Parents: parents[3:4], Payload: &tangle.TaggedData{}})
	largest := &tangle.Block{Protocol: tangle.Protocol, Parents: parents, Payload: &tangle.TaggedData{
		Tag: bytes.Repeat([]byte{1}, tangle.MaxTagSize), Data: make([]byte, tangle.MaxBlockSize-(1+1+8*32+4+4+1+64+4+8)),
	}}
	raw := largest.Append(nil)
	equal(t, "size", len(raw), tangle.MaxBlockSize)
	back, err := tangle.DecodeBlock(raw)
	must(t, err)
	equal(t, "ID", back.ID(), largest.ID())
	text, err := json.Marshal(back)
	if must(t, err); len(text) > tangle.MaxJSON {
		t.Errorf("the largest block has %d bytes of JSON", len(text))
	}
	largest.Payload.(*tangle.TaggedData).Data = append(largest.Payload.(*tangle.TaggedData).Data, 0)
	_, err = tangle.DecodeBlock(largest.Append(nil))
	refuses(t, "a byte too large", err, "the limit is 32768")
	text, err = json.Marshal(largest)
	must(t, err)
	refuses(t, "a byte too large in JSON", json.Unmarshal(text, back), "the limit is 32768")

	raw = (&tangle.Block{Protocol: tangle.Protocol, Parents: parents[:1], Payload: &tangle.TaggedData{Data: []byte("data")}}).Append(nil)
	raw[1+1+32]++
	_, err = tangle.DecodeBlock(raw)
	refuses(t, "a payload that says too much", err, "payload is 13 bytes and says 14")

	for what, b := range map[string]*tangle.Block{
		"no parents":        {Protocol: 2},
		"nine parents":      {Protocol: 2, Parents: append(parents, tangle.BlockID{9})},
		"a parent twice":    {Protocol: 2, Parents: []tangle.BlockID{{1}, {1}}},
		"falling parents":   {Protocol: 2, Parents: []tangle.BlockID{{2}, {1}}},
		"protocol 1":        {Protocol: 1, Parents: parents},
		"a tag too large":   {Protocol: 2, Parents: parents, Payload: &tangle.TaggedData{Tag: make([]byte, 65)}},
		"no such milestone": {Protocol: 2, Parents: parents, Payload: &tangle.Milestone{Protocol: 2, Parents: parents}},
	} {
		if _, err := tangle.DecodeBlock(b.Append(nil)); err == nil {
			t.Errorf("%s is read", what)
		}
		text, err := json.Marshal(b)
		must(t, err)
		if err := json.Unmarshal(text, new(tangle.Block)); err == nil {
			t.Errorf("%s is read from JSON", what)
		}
	}
	for _, text := range []string{
		`{}`, `[]`, `{"protocolVersion":2,"parents":["0x00"],"nonce":"0"}`,
		`{"protocolVersion":2,"parents":["` + parents[1].String() + `"],"payload":{"type":9},"nonce":"0"}`,
		`{"protocolVersion":2,"parents":["` + parents[1].String() + `"],"payload":{"tag":"0x"},"nonce":"0"}`,
		`{"protocolVersion":2,"parents":["` + parents[1].String() + `"],"nonce":0}`,
	} {
		if err := json.Unmarshal([]byte(text), new(tangle.Block)); err == nil {
			t.Errorf("%s is read", text)
		}
	}
}

// TestJSON: what has no binary form is refused.
func TestJSON(t *testing.T) {
	good := tangle.BasicOutput{Amount: 5, Address: address(1)}
	text, err := json.Marshal(good)
	must(t, err)
	var back tangle.BasicOutput
	must(t, json.Unmarshal(text, &back))
	equal(t, "output", back, good)
	condition := string(text[bytes.IndexByte(text, '[')+1 : bytes.IndexByte(text, ']')])
	for what, bad := range map[string]string{
		"no condition":      strings.Replace(string(text), condition, "", 1),
		"two conditions":    strings.Replace(string(text), condition, condition+","+condition, 1),
		"an expiration":     strings.Replace(string(text), condition, `{"type":3,"unixTime":5}`, 1),
		"an NFT":            strings.Replace(string(text), `"type":3`, `"type":6`, 1),
		"an NFT's address":  strings.Replace(string(text), `"address":{"type":0`, `"address":{"type":16`, 1),
		"a token":           strings.Replace(string(text), `{`, `{"nativeTokens":[{}],`, 1),
		"a feature":         strings.Replace(string(text), `{`, `{"features":[{}],`, 1),
		"nothing":           strings.Replace(string(text), `"5"`, `"0"`, 1),
		"less than nothing": strings.Replace(string(text), `"5"`, `"-5"`, 1),
		"too much":          strings.Replace(string(text), `"5"`, `"18446744073709551616"`, 1),
	} {
		if bad == string(text) {
			t.Fatalf("%s is no change", what)
		}
		if err := json.Unmarshal([]byte(bad), new(tangle.BasicOutput)); err == nil {
			t.Errorf("an output with %s is read: %s", what, bad)
		}
	}
	x := &tangle.Transaction{Unlocks: []tangle.Unlock{tangle.ReferenceUnlock(0)}}
	text, err = json.Marshal(x)
	must(t, err)
	refuses(t, "a transaction of nothing", json.Unmarshal(text, new(tangle.Transaction)), "0 inputs")
	for _, text := range []string{`"0X00"`, `"00"`, `"0x0"`, `"0xzz"`, `5`} {
		if err := json.Unmarshal([]byte(`{"type":5,"tag":`+text+`}`), new(tangle.TaggedData)); err == nil {
			t.Errorf("%s is read as bytes", text)
		}
	}
}

// TestInclusion proves every block of lists of many lengths, and no other.
func TestInclusion(t *testing.T) {
	var ids []tangle.BlockID
	for size := 1; size <= 70; size++ {
		ids = append(ids, tangle.BlockID{byte(size), 1})
		root := tangle.MerkleRoot(ids)
		tree := tangle.NewTree(ids)
		equal(t, "root", tree.Root(), root)
		for i := range ids {
			p, err := tree.Inclusion(i)
			must(t, err)
			must(t, p.Verify(root))
			back, err := tangle.DecodeInclusion(p.Append(nil))
			must(t, err)
			must(t, back.Verify(root))
			equal(t, "proof", back.Append(nil), p.Append(nil))

			wrong := p
			wrong.Block[5] ^= 1
			refuses(t, "another block", wrong.Verify(root), "the milestone has")
			wrong = p
			if wrong.Index++; wrong.Verify(root) == nil {
				t.Errorf("block %d of %d is proven to be the next", i, size)
			}
			wrong = p
			wrong.Path = append(wrong.Path[:len(wrong.Path):len(wrong.Path)], root)
			refuses(t, "a longer path", wrong.Verify(root), "too long")
			if len(p.Path) > 0 {
				wrong.Path = p.Path[:len(p.Path)-1]
				refuses(t, "a shorter path", wrong.Verify(root), "too short")
			}
		}
	}
	equal(t, "root of nothing", tangle.NewTree(nil).Root(), tangle.MerkleRoot(nil))
	_, err := tangle.NewInclusion(ids, len(ids))
	refuses(t, "a block that is not there", err, "no block 70 in a list of 70")
}

// TestWork searches nonces, and the network counts them.
func TestWork(t *testing.T) {
	n := network(t)
	equal(t, "zeros without work", n.ZerosNeeded(32_768), 0)
	n.MinScore = 1500
	for size, want := range map[int]int{1: 7, 200: 12, 208: 12, 32_768: 17} {
		equal(t, "zeros of "+strconv.Itoa(size)+" bytes", n.ZerosNeeded(size), want)
	}
	n.MinScore = 3
	equal(t, "zeros of a score that is just met", n.ZerosNeeded(9), 3)
	n.MinScore, n.MinZeros = 1, 6
	equal(t, "zeros at least", n.ZerosNeeded(200), 6)
	n.MinScore = 1<<32 - 1
	if got := n.ZerosNeeded(tangle.MaxBlockSize); got > tangle.MaxZeros {
		t.Errorf("the hardest block needs %d zeros, which nobody finds", got)
	}

	random := rand.New(rand.NewPCG(1, 2))
	var blocks [][]byte
	for i := range 70 {
		b := &tangle.Block{Protocol: tangle.Protocol, Parents: []tangle.BlockID{{byte(i)}}, Payload: &tangle.TaggedData{Data: make([]byte, random.IntN(90))}}
		b.Nonce = tangle.Mine(b.AppendUnworked(nil), i%6, ^uint64(0)-uint64(random.IntN(200)))
		blocks = append(blocks, b.Append(nil))
	}
	zeros := tangle.ZerosOf(append(blocks, []byte{1}))
	for i, raw := range blocks {
		if zeros[i] < i%6 {
			t.Errorf("block %d has %d zeros; %d were searched", i, zeros[i], i%6)
		}
		if i%9 == 0 {
			equal(t, "zeros of one", tangle.Zeros(raw), zeros[i])
		}
	}
	equal(t, "zeros of no block", tangle.Zeros([]byte{1}), 0)
	if n.Enough(200, 12) {
		t.Error("12 zeros are enough where the most is wanted")
	}
}

func TestNetwork(t *testing.T) {
	n := network(t)
	equal(t, "supply", n.Supply, uint64(1500))
	change := func(f func(n *tangle.Network)) error {
		c := *n
		f(&c)
		return c.Check()
	}
	refuses(t, "another ID", change(func(n *tangle.Network) { n.ID++ }), "its name gives")
	refuses(t, "a threshold of four", change(func(n *tangle.Network) { n.Threshold = 4 }), "4 of 3")
	refuses(t, "no threshold", change(func(n *tangle.Network) { n.Threshold = 0 }), "0 of 3")
	refuses(t, "no genesis", change(func(n *tangle.Network) { n.Genesis = nil }), "0 genesis outputs")
	refuses(t, "another supply", change(func(n *tangle.Network) { n.Supply++ }), "the supply is 1501")
	refuses(t, "a key twice", change(func(n *tangle.Network) { n.Coordinators = [][32]byte{{1}, {1}} }), "ascend")
	refuses(t, "no prefix", change(func(n *tangle.Network) { n.HRP = "" }), "prefix")
	refuses(t, "impossible work", change(func(n *tangle.Network) { n.MinZeros = 41 }), "zero trits")
}

// TestWorkTogether: blocks whose work is done together have what they want, by the nonces
// that they have alone.
func TestWorkTogether(t *testing.T) {
	for count := range 70 {
		var unworked [][]byte
		var zeros []int
		for i := range count {
			unworked, zeros = append(unworked, []byte{byte(i), byte(count), 3}), append(zeros, i%4)
		}
		for i, nonce := range tangle.MineAll(unworked, zeros) {
			if alone := tangle.Mine(unworked[i], zeros[i], 0); nonce != alone {
				t.Fatalf("block %d of %d has nonce %d, and %d alone", i, count, nonce, alone)
			}
		}
	}
}
