package interop

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"coinop.dev/core/bitcoin/mnemonic"
	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/lattice"
	"coinop.dev/interop/peers"
)

type (
	nanoAccount struct {
		Seed, Secret, Public, Address string
		Index                         uint32
	}
	nanoAddress struct {
		Text string
		good bool
	}
	nanoBlock struct {
		Kind, Account, Previous, Representative, To, Link, Work string
		Before, Balance, Amount                                 string
		Secret, Public, Hash, Signature, Spoiled                string
	}
	nanoWork struct {
		Root, Work, Threshold string
		enough                bool
	}
	nanoUnit   struct{ Raw, Nano string }
	nanoPhrase struct {
		Phrase, Passphrase            string
		Seed, Secret, Public, Address string
		Index                         uint32
	}
)

// A nanoAnswer is what the two libraries make of the cases, in their order.
type nanoAnswer struct {
	Account []struct{ Secret, Public, Address, WebSecret, WebPublic, WebAddress string }
	Address []struct {
		NC  bool `json:"nc"`
		Web any
	}
	Block []struct {
		Hash, Signature, WebSignature, WebBalance      string
		Takes, TakesSpoiled, WebTakes, WebTakesSpoiled bool
	}
	Work   []bool
	Unit   []struct{ Nano, Raw, WebNano, WebRaw string }
	Phrase []struct{ Seed, Secret, Public, Address string }
}

// TestNanoNPM deals random keys, blocks, works, amounts and phrases, and holds what
// we make of them to nanocurrency and nanocurrency-web.
func TestNanoNPM(t *testing.T) {
	script, err := peers.InstallNode(t.Context(), "nano", "compare.js")
	if errors.Is(err, peers.ErrNoNode) {
		t.Skip(err)
	}
	must(t, err)
	r := rand.NewChaCha8([32]byte{6})
	d := dealer{rand.New(r), r}
	var cases struct {
		Account []nanoAccount `json:"account"`
		Address []nanoAddress `json:"address"`
		Block   []nanoBlock   `json:"block"`
		Work    []nanoWork    `json:"work"`
		Unit    []nanoUnit    `json:"unit"`
		Phrase  []nanoPhrase  `json:"phrase"`
	}
	for i := range 60 {
		cases.Account = append(cases.Account, d.account())
		cases.Address = append(cases.Address, d.address(i%2 == 0))
		cases.Block = append(cases.Block, d.block(lattice.Kind(i%4)+lattice.Send))
		cases.Work = append(cases.Work, d.work())
		cases.Unit = append(cases.Unit, d.unit())
	}
	for range 12 {
		cases.Phrase = append(cases.Phrase, d.phrase(t))
	}
	in, err := json.Marshal(cases)
	must(t, err)
	cmd := exec.CommandContext(t.Context(), "node", script)
	var out, log bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(lowerKeys(t, in)), &out, &log
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	var got nanoAnswer
	must(t, json.Unmarshal(out.Bytes(), &got))
	if have := [...]int{len(got.Account), len(got.Address), len(got.Block), len(got.Work), len(got.Unit), len(got.Phrase)}; have != [...]int{60, 60, 60, 60, 60, 12} {
		t.Fatalf("there are %v answers", have)
	}
	same := func(what string, i int, ours string, theirs ...string) {
		t.Helper()
		for _, their := range theirs {
			if !strings.EqualFold(ours, their) {
				t.Errorf("case %d: %s is %s; they have %s", i, what, ours, their)
			}
		}
	}
	for i, g := range got.Account {
		c := cases.Account[i]
		same("secret", i, c.Secret, g.Secret, g.WebSecret)
		same("public key", i, c.Public, g.Public, g.WebPublic)
		same("address", i, c.Address, g.Address, g.WebAddress)
	}
	for i, g := range got.Address {
		c := cases.Address[i]
		same("good address "+c.Text, i, fmt.Sprint(c.good), fmt.Sprint(g.NC))
		if web, ok := g.Web.(bool); ok {
			same("good address "+c.Text, i, fmt.Sprint(c.good), fmt.Sprint(web))
		} else if c.good {
			t.Errorf("case %d: address %s: %v", i, c.Text, g.Web)
		}
	}
	for i, g := range got.Block {
		c := cases.Block[i]
		same(c.Kind+"'s hash", i, c.Hash, g.Hash)
		same(c.Kind+"'s signature", i, c.Signature, g.Signature, g.WebSignature)
		same(c.Kind+"'s balance", i, c.Balance, g.WebBalance)
		if !g.Takes || !g.WebTakes || g.TakesSpoiled || g.WebTakesSpoiled {
			t.Errorf("case %d: they take our signature: %v, %v; spoiled: %v, %v", i, g.Takes, g.WebTakes, g.TakesSpoiled, g.WebTakesSpoiled)
		}
		var theirs [64]byte
		b, err := hex.DecodeString(g.WebSignature)
		must(t, err)
		copy(theirs[:], b)
		hash, err := lattice.ParseHash(g.Hash)
		must(t, err)
		key, err := lattice.ParseKey(c.Public)
		must(t, err)
		if !lattice.Verify(key, hash[:], theirs) || !eddsa.Verify(eddsa.BLAKE2b512, key, hash[:], theirs) {
			t.Errorf("case %d: we refuse their signature", i)
		}
	}
	for i, g := range got.Work {
		same("enough work", i, fmt.Sprint(cases.Work[i].enough), fmt.Sprint(g))
	}
	for i, g := range got.Unit {
		same("nano", i, cases.Unit[i].Nano, g.Nano)
		web, err := lattice.ParseNano(g.WebNano) // with zeros at the end
		must(t, err)
		same("raw", i, cases.Unit[i].Raw, g.Raw, g.WebRaw, web.String())
	}
	for i, g := range got.Phrase {
		c := cases.Phrase[i]
		same("seed", i, c.Seed, g.Seed)
		same("secret", i, c.Secret, g.Secret)
		same("public key", i, c.Public, g.Public)
		same("address", i, c.Address, g.Address)
	}
}

// lowerKeys writes the fields' names as JavaScript does.
func lowerKeys(t *testing.T, in []byte) []byte {
	var groups map[string][]map[string]any
	must(t, json.Unmarshal(in, &groups))
	for _, group := range groups {
		for i, fields := range group {
			lower := map[string]any{}
			for name, value := range fields {
				lower[strings.ToLower(name)] = value
			}
			group[i] = lower
		}
	}
	out, err := json.Marshal(groups)
	must(t, err)
	return out
}

// A dealer makes cases, always the same.
type dealer struct {
	*rand.Rand
	source *rand.ChaCha8
}

func (d dealer) bytes() (b [32]byte) {
	d.source.Read(b[:])
	return b
}

// raw is an amount of any magnitude.
func (d dealer) raw() lattice.Raw {
	r := lattice.Raw{Hi: d.Uint64(), Lo: d.Uint64()}
	for range d.IntN(40) {
		r, _ = r.Div(10)
	}
	return r
}

func upper(b []byte) string { return strings.ToUpper(hex.EncodeToString(b)) }

func (d dealer) account() nanoAccount {
	seed, index := d.bytes(), d.Uint32N(1000)
	s := lattice.SeedKey(seed, index)
	key, private := lattice.Key(s.Public()), s.Reveal()
	return nanoAccount{Seed: upper(seed[:]), Index: index, Secret: upper(private[:]), Public: key.Hex(), Address: key.String()}
}

// address is one, or one with a character changed.
func (d dealer) address(good bool) nanoAddress {
	text := []byte(lattice.Key(d.bytes()).String())
	if !good {
		const alphabet = "13456789abcdefghijkmnopqrstuwxyz"
		at := 6 + d.IntN(len(text)-6)
		text[at] = alphabet[(strings.IndexByte(alphabet, text[at])+1+d.IntN(31))%32]
	}
	_, err := lattice.ParseAccount(string(text))
	return nanoAddress{string(text), err == nil}
}

func (d dealer) block(kind lattice.Kind) nanoBlock {
	s := lattice.NewSecret(d.bytes())
	key, private := lattice.Key(s.Public()), s.Reveal()
	before, amount := d.raw(), d.raw()
	b := lattice.Block{Account: key, Previous: d.bytes(), Representative: d.bytes(), Link: d.bytes(), Work: d.Uint64()}
	switch kind {
	case lattice.Send:
		if before.Cmp(amount) < 0 {
			before, amount = amount, before
		}
		b.Balance, _ = before.Sub(amount)
	case lattice.Change:
		b.Balance, b.Link, amount = before, [32]byte{}, lattice.Raw{}
	default:
		before, _ = before.Div(2)
		amount, _ = amount.Div(2)
		b.Balance, _ = before.Add(amount)
	}
	if kind == lattice.Open {
		before, b.Balance, b.Previous = lattice.Raw{}, amount, lattice.Hash{}
	}
	b.Sign(s)
	spoiled := b.Signature
	spoiled[d.IntN(63)] ^= 1
	return nanoBlock{
		Kind: kind.String(), Account: key.String(), Previous: b.Previous.String(), Representative: b.Representative.String(),
		To: lattice.Key(b.Link).String(), Link: upper(b.Link[:]), Work: fmt.Sprintf("%016x", b.Work),
		Before: before.String(), Balance: b.Balance.String(), Amount: amount.String(),
		Secret: upper(private[:]), Public: key.Hex(), Hash: b.Hash().String(), Signature: upper(b.Signature[:]), Spoiled: upper(spoiled[:]),
	}
}

// work is found for some threshold, and judged by one like it.
func (d dealer) work() nanoWork {
	root := d.bytes()
	threshold := -(uint64(1) << (52 + d.IntN(8)))
	work := lattice.Work(root, threshold, d.Uint64())
	threshold += d.Uint64N(-threshold)
	return nanoWork{upper(root[:]), fmt.Sprintf("%016x", work), fmt.Sprintf("%016x", threshold), lattice.WorkValue(root, work) >= threshold}
}

func (d dealer) unit() nanoUnit {
	r := d.raw()
	return nanoUnit{r.String(), r.Nano()}
}

func (d dealer) phrase(t *testing.T) nanoPhrase {
	entropy, index := d.bytes(), d.Uint32N(100)
	words, err := mnemonic.New(entropy[:])
	must(t, err)
	p := nanoPhrase{Phrase: words, Index: index, Passphrase: []string{"", "a pass phrase"}[d.IntN(2)]}
	seed, err := mnemonic.ToSeed(words, p.Passphrase)
	must(t, err)
	s := lattice.FromMnemonic(seed, index)
	key, private := lattice.Key(s.Public()), s.Reveal()
	p.Seed, p.Secret, p.Public, p.Address = upper(seed.Reveal()), upper(private[:]), key.Hex(), key.String()
	return p
}
