package lattice_test

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/crypto/blake2b"

	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/lattice"
)

func source(seed byte) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{seed}) }

func random(r *rand.ChaCha8) (b [32]byte) {
	r.Read(b[:])
	return b
}

// TestMistypedAddress changes every character of an address into every other one:
// none is read as somebody's.
func TestMistypedAddress(t *testing.T) {
	key := lattice.Key(random(source(1)))
	for _, text := range []string{key.String(), strings.Replace(key.String(), "nano_", "xrb_", 1)} {
		if got, err := lattice.ParseAccount(text); err != nil || got != key {
			t.Errorf("%s is read as %s: %v", text, got, err)
		}
		for i := range text {
			for _, c := range []byte("13456789abcdefghijkmnopqrstuwxyz02lvNANO _\x00\xff") {
				if wrong := text[:i] + string([]byte{c}) + text[i+1:]; wrong != text {
					if got, err := lattice.ParseAccount(wrong); err == nil {
						t.Errorf("%s is read as %s", wrong, got)
					}
				}
			}
		}
	}
	for _, wrong := range []string{"", "nano_", key.Node(), key.Hex(), key.String() + "1", " " + key.String()} {
		if got, err := lattice.ParseAccount(wrong); err == nil {
			t.Errorf("%q is read as %s", wrong, got)
		}
	}
	if got, err := lattice.ParseNode(key.Node()); err != nil || got != key {
		t.Errorf("%s is read as %s: %v", key.Node(), got, err)
	}
	if _, err := lattice.ParseNode(key.String()); err == nil {
		t.Error("an account is read as a node")
	}
	if got, err := lattice.ParseKey(strings.ToLower(key.Hex())); err != nil || got != key {
		t.Errorf("hex is read as %s: %v", got, err)
	}
}

func TestTextInJSON(t *testing.T) {
	type row struct {
		Account lattice.Key
		Hash    lattice.Hash
		Balance lattice.Raw
	}
	r := source(2)
	want := row{lattice.Key(random(r)), lattice.Hash(random(r)), lattice.MaxRaw}
	raw, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got row
	if err := json.Unmarshal(raw, &got); err != nil || got != want {
		t.Errorf("%s is read as %+v: %v", raw, got, err)
	}
	for _, wrong := range []string{`{"Account":"nano_1"}`, `{"Hash":"00"}`, `{"Balance":"-1"}`} {
		if json.Unmarshal([]byte(wrong), &got) == nil {
			t.Errorf("%s is read", wrong)
		}
	}
}

// TestRawIsExact holds the arithmetic to math/big's.
func TestRawIsExact(t *testing.T) {
	r := rand.New(source(3))
	large := func(x lattice.Raw) *big.Int {
		n := new(big.Int).SetUint64(x.Hi)
		return n.Lsh(n, 64).Add(n, new(big.Int).SetUint64(x.Lo))
	}
	pick := func() uint64 {
		switch r.IntN(4) {
		case 0:
			return 0
		case 1:
			return math.MaxUint64
		case 2:
			return uint64(r.IntN(1000))
		}
		return r.Uint64()
	}
	limit := new(big.Int).Lsh(big.NewInt(1), 128)
	for range 5000 {
		a, b, n := lattice.Raw{Hi: pick(), Lo: pick()}, lattice.Raw{Hi: pick(), Lo: pick()}, pick()
		x, y, m := large(a), large(b), new(big.Int).SetUint64(n)
		check := func(what string, got lattice.Raw, ok bool, want *big.Int) {
			if fits := want.Sign() >= 0 && want.Cmp(limit) < 0; ok != fits || ok && large(got).Cmp(want) != 0 {
				t.Fatalf("%s of %s, %s, %d is %s, %v; want %s", what, a, b, n, got, ok, want)
			}
		}
		sum, ok := a.Add(b)
		check("sum", sum, ok, new(big.Int).Add(x, y))
		difference, ok := a.Sub(b)
		check("difference", difference, ok, new(big.Int).Sub(x, y))
		product, ok := a.Mul(n)
		check("product", product, ok, new(big.Int).Mul(x, m))
		check("product of 64 bits", lattice.Mul64(a.Lo, n), true, new(big.Int).Mul(new(big.Int).SetUint64(a.Lo), m))
		if n != 0 {
			quotient, rest := a.Div(n)
			q, left := new(big.Int).QuoRem(x, m, new(big.Int))
			check("quotient", quotient, true, q)
			check("rest", lattice.RawOf(rest), true, left)
		}
		percent := n % 101
		share := new(big.Int).Mul(x, new(big.Int).SetUint64(percent))
		share.Add(share, big.NewInt(99)).Quo(share, big.NewInt(100))
		check("percent", a.Percent(percent), true, share)
		if a.Cmp(b) != x.Cmp(y) || a.String() != x.String() {
			t.Fatalf("%s: compared with %s it is %d", a, b, a.Cmp(b))
		}
		if got, err := lattice.ParseRaw(a.String()); err != nil || got != a {
			t.Fatalf("%s is read as %s: %v", a, got, err)
		}
		if got, err := lattice.ParseNano(a.Nano()); err != nil || got != a {
			t.Fatalf("%s nano is read as %s: %v", a.Nano(), got, err)
		}
	}
}

func TestUnits(t *testing.T) {
	for text, want := range map[string]string{
		"1": "1000000000000000000000000000000", "0.000000000000000000000000000001": "1", "0": "0", "20.30": "20300000000000000000000000000000",
		"340282366.920938463463374607431768211455": lattice.MaxRaw.String(), "007": "7000000000000000000000000000000",
	} {
		if got, err := lattice.ParseNano(text); err != nil || got.String() != want {
			t.Errorf("%s nano is %s raw: %v; want %s", text, got, err, want)
		}
	}
	if got := lattice.OneNano.Nano(); got != "1" {
		t.Errorf("one nano is %s", got)
	}
	if got := lattice.MaxRaw.Nano(); got != "340282366.920938463463374607431768211455" {
		t.Errorf("the supply is %s nano", got)
	}
	for _, wrong := range []string{"", ".", "1.", ".5", "-1", "1e3", "1,5", "340282366.920938463463374607431768211456", "0.0000000000000000000000000000001", "99999999999999999999"} {
		if got, err := lattice.ParseNano(wrong); err == nil {
			t.Errorf("%q nano is read as %s", wrong, got)
		}
	}
	for _, wrong := range []string{"", "01", "1.0", "+1", "340282366920938463463374607431768211456", strings.Repeat("9", 40)} {
		if got, err := lattice.ParseRaw(wrong); err == nil {
			t.Errorf("%q raw is read as %s", wrong, got)
		}
	}
}

// TestWorkIsBLAKE2b holds the one compression that we write ourselves to
// golang.org/x/crypto.
func TestWorkIsBLAKE2b(t *testing.T) {
	r := source(4)
	for range 2000 {
		root, work := random(r), r.Uint64()
		h, err := blake2b.New(8, nil)
		if err != nil {
			t.Fatal(err)
		}
		h.Write(binary.LittleEndian.AppendUint64(nil, work))
		h.Write(root[:])
		if got, want := lattice.WorkValue(root, work), binary.LittleEndian.Uint64(h.Sum(nil)); got != want {
			t.Fatalf("value of %x on %x is %x; want %x", work, root, got, want)
		}
	}
}

func TestWorkIsTheFirst(t *testing.T) {
	root := random(source(5))
	work := lattice.Work(root, lattice.DevWorkSend, 1000)
	for w := uint64(1000); w <= work; w++ {
		if enough := lattice.WorkValue(root, w) >= lattice.DevWorkSend; enough != (w == work) {
			t.Fatalf("from 1000 on it finds %d; %d is enough: %v", work, w, enough)
		}
	}
	if _, ok := lattice.TryWork(root, lattice.DevWorkSend, 1000, work-1000); ok {
		t.Error("it tries more often than it may")
	}
	if got, ok := lattice.TryWork(root, lattice.DevWorkSend, 1000, work-999); !ok || got != work {
		t.Errorf("with the last try it finds %d, %v; want %d", got, ok, work)
	}
	if m := lattice.Multiplier(lattice.LiveWorkSend, lattice.LiveWorkReceive); m != 64 {
		t.Errorf("a send takes %v times the work of a receive; want 64", m)
	}
}

// TestKind walks through what a block may do to its account, and what none may.
func TestKind(t *testing.T) {
	one, hundred := lattice.RawOf(1), lattice.RawOf(100)
	some, epoch := [32]byte{1}, lattice.EpochLink(2)
	for _, c := range []struct {
		what      string
		first     bool
		previous  lattice.Hash
		link      [32]byte
		old, next lattice.Raw
		want      lattice.Kind
	}{
		{"less is a send", false, some, some, hundred, one, lattice.Send},
		{"so is all, to nobody", false, some, [32]byte{}, hundred, lattice.Raw{}, lattice.Send},
		{"more is a receive", false, some, some, one, hundred, lattice.Receive},
		{"more from nowhere is nothing", false, some, [32]byte{}, one, hundred, 0},
		{"as much is a change", false, some, [32]byte{}, one, one, lattice.Change},
		{"as much to somebody is nothing", false, some, some, one, one, 0},
		{"the first opens", true, lattice.Hash{}, some, lattice.Raw{}, one, lattice.Open},
		{"the first follows none", true, some, some, lattice.Raw{}, one, 0},
		{"the first is from somewhere", true, lattice.Hash{}, [32]byte{}, lattice.Raw{}, one, 0},
		{"only the first follows none", false, lattice.Hash{}, some, one, hundred, 0},
		{"an upgrade", false, some, epoch, one, one, lattice.Epoch},
		{"an upgrade of nothing", true, lattice.Hash{}, epoch, lattice.Raw{}, lattice.Raw{}, lattice.Epoch},
		{"a send to who has an upgrade's key", false, some, epoch, hundred, one, lattice.Send},
	} {
		b := lattice.Block{Previous: c.previous, Link: c.link, Balance: c.next}
		if got := b.Kind(c.old, c.first); got != c.want {
			t.Errorf("%s: it is a %s; want %s", c.what, got, c.want)
		}
	}
}

// TestNetwork founds one twice: it is the same, and another name, key or supply is
// another.
func TestNetwork(t *testing.T) {
	key := lattice.NewSecret([32]byte{1})
	found := func(name string) lattice.Network {
		return lattice.NewNetwork(name, key, lattice.MaxRaw, lattice.DevWorkSend, lattice.DevWorkReceive)
	}
	n := found("fair")
	if err := n.Check(); err != nil {
		t.Fatal(err)
	}
	if n.Genesis != found("fair").Genesis || n.Genesis.Hash() == ptr(found("other").Genesis).Hash() {
		t.Error("its genesis does not follow from its name")
	}
	if n.Supply() != lattice.MaxRaw || !n.EnoughWork(&n.Genesis, lattice.Open) || n.Threshold(lattice.Change) != lattice.DevWorkSend {
		t.Errorf("network is %+v", n)
	}
	for what, spoil := range map[string]func(*lattice.Network){
		"name":    func(n *lattice.Network) { n.Name = "foul" },
		"no name": func(n *lattice.Network) { n.Name = "" },
		"supply":  func(n *lattice.Network) { n.Genesis.Balance = lattice.RawOf(1) },
		"none":    func(n *lattice.Network) { n.Genesis.Balance = lattice.Raw{} },
		"work":    func(n *lattice.Network) { n.WorkReceive = math.MaxUint64 },
		"minimum": func(n *lattice.Network) { n.Genesis.Balance, n.OnlineMinimum = lattice.RawOf(1), lattice.MaxRaw },
		"reps":    func(n *lattice.Network) { n.Reps = lattice.Weights{{}} },
	} {
		bad := n
		if spoil(&bad); bad.Check() == nil {
			t.Errorf("a network with another %s is taken", what)
		}
	}
}

// TestNobodySignsForBurn: its key is a point for which everybody can sign.
func TestNobodySignsForBurn(t *testing.T) {
	var none [64]byte
	if !eddsa.VerifyCofactored(eddsa.BLAKE2b512, lattice.Burn, nil, none) {
		t.Fatal("by ZIP-215 nothing is a signature for nothing")
	}
	batch := lattice.NewBatch(nil)
	batch.Add(lattice.Burn, nil, none)
	if all, _ := batch.Verify(); all || lattice.Verify(lattice.Burn, nil, none) {
		t.Error("somebody signs for the burn account")
	}
}

func ptr[T any](v T) *T { return &v }

func TestURI(t *testing.T) {
	key := lattice.NewSecret([32]byte{1}).Public()
	account := lattice.Key(key).String()
	for text, want := range map[string]lattice.URI{
		"nano:" + account:                {Account: key},
		"nano:" + account + "?amount=12": {Account: key, Amount: lattice.RawOf(12)},
		"NANO:" + account + "?amount=1000000000000000000000000000000&label=Caf%C3%A9%20Rio&message=a%26b%3Dc%2B": {
			Account: key, Amount: lattice.OneNano, Label: "Café Rio", Message: "a&b=c+",
		},
		"nano:" + account + "?colour=red&label=x": {Account: key, Label: "x"},
		"nano:" + account + "?message=1+1":        {Account: key, Message: "1+1"},
	} {
		u, err := lattice.ParseURI(text)
		if err != nil || u != want {
			t.Errorf("%s is read as %+v: %v", text, u, err)
		}
		if again, err := lattice.ParseURI(u.String()); err != nil || again != u {
			t.Errorf("%s is read as %+v: %v", u, again, err)
		}
	}
	for _, wrong := range []string{
		"", "nano", account, "bitcoin:" + account, "nano:" + account + "?amount=0", "nano:" + account + "?amount=1.5",
		"nano:" + account + "?amount=1&amount=2", "nano:" + account + "?label=%zz", "nano:" + account[:60],
		"nano:" + account + "?label=" + strings.Repeat("x", lattice.MaxURI),
	} {
		if u, err := lattice.ParseURI(wrong); err == nil {
			t.Errorf("%.80s is read as %+v", wrong, u)
		}
	}
}

func BenchmarkWork(b *testing.B) {
	for b.Loop() {
		lattice.TryWork([32]byte{1}, math.MaxUint64, 0, 1000)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/try")
}

func BenchmarkBlockHash(b *testing.B) {
	block := lattice.Block{Account: lattice.Key{1}}
	b.ReportAllocs()
	for b.Loop() {
		block.Hash()
	}
}

func BenchmarkDecodePublish(b *testing.B) {
	raw := (&lattice.Publish{}).Append(nil, lattice.MagicTest)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := lattice.Decode(raw, lattice.MagicTest); err != nil {
			b.Fatal(err)
		}
	}
}
