package invoice_test

import (
	"bytes"
	"encoding/hex"
	"math"
	"math/big"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/invoice"
	"coinop.dev/core/money"
	"coinop.dev/core/step"
)

// same compares what two invoices say; the order of their fields is checked by
// signing them again.
func same(t *testing.T, got, want invoice.Invoice) {
	t.Helper()
	g, w := reflect.ValueOf(got), reflect.ValueOf(want)
	for k := range g.NumField() {
		if name := g.Type().Field(k).Name; name != "order" && !reflect.DeepEqual(g.Field(k).Interface(), w.Field(k).Interface()) {
			t.Errorf("%s is %v, want %v", name, g.Field(k), w.Field(k))
		}
	}
}

// Every valid example says what BOLT 11 says it does, and signed again by the
// key of the examples it is the same text.
func TestValidExamples(t *testing.T) {
	for _, v := range valid {
		t.Run(v.name, func(t *testing.T) {
			got, err := invoice.Parse(v.text)
			if err != nil {
				t.Fatal(err)
			}
			want := v.want
			if v.text == highS {
				if got.Payee == public(specPayee) || got.Payee == (keys.Public{}) {
					t.Errorf("payee is %v", got.Payee)
				}
				want.Payee = got.Payee
			}
			same(t, got, want)
			if v.text == highS {
				return
			}
			again, err := got.Sign(node())
			if err != nil || again != strings.ToLower(v.text) {
				t.Errorf("signed again: %v\n%s\nwant\n%s", err, again, v.text)
			}
		})
	}
}

func TestInvalidExamples(t *testing.T) {
	for _, v := range invalid {
		if i, err := invoice.Parse(v.text); err == nil || !strings.Contains(err.Error(), v.want) {
			t.Errorf("%s: got %v, want %q", v.name, err, v.want)
		} else if i.Network != "" {
			t.Errorf("%s: an invoice beside an error", v.name)
		}
	}
}

func TestSchemeInFront(t *testing.T) {
	for _, scheme := range []string{"lightning:", "LIGHTNING:", "Lightning:"} {
		if _, err := invoice.Parse(scheme + valid[0].text); err != nil {
			t.Errorf("%s: %v", scheme, err)
		}
	}
	for _, scheme := range []string{"lightning://", "bitcoin:", " "} {
		if _, err := invoice.Parse(scheme + valid[0].text); err == nil {
			t.Errorf("%q in front accepted", scheme)
		}
	}
}

// One wrong character is seen wherever it is.
func TestTypos(t *testing.T) {
	text := valid[1].text
	for at := range text {
		typo := []byte(text)
		if typo[at] = 'q'; text[at] == 'q' {
			typo[at] = 'p'
		}
		if _, err := invoice.Parse(string(typo)); err == nil {
			t.Errorf("typo at %d accepted", at)
		}
	}
	if _, err := invoice.Parse(strings.Replace(strings.ToUpper(text), "K", "\u212a", 1)); err == nil {
		t.Error("the sign for Kelvin taken for a K")
	}
}

// made is an invoice with something of everything.
func made() invoice.Invoice {
	return invoice.Invoice{
		Network: invoice.Regtest, Amount: 1234567, At: 1_800_000_000, Hash: specHash, Secret: specSecret,
		Description: "a reading", Expiry: 600, FinalCLTV: 40, Metadata: []byte{1, 2},
		Hints:     [][]invoice.Hint{{{Node: public(specPayee), SCID: math.MaxUint64, FeeBase: math.MaxUint32, FeePPM: 1, CLTVDelta: 144}}, {{Node: public(specPayee)}}},
		Fallbacks: append(fallback(1, strings.Repeat("ab", 32)), fallback(invoice.P2SH, strings.Repeat("cd", 20))...),
		Features:  invoice.NewFeatures(8, 14, 17, 49),
		Unknown:   []invoice.Field{{Type: 30, Words: []byte{31, 0, 1}}, {Type: 2, Words: []byte{}}},
	}
}

func sign(t *testing.T, i invoice.Invoice) string {
	t.Helper()
	text, err := i.Sign(node())
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func parse(t *testing.T, text string) invoice.Invoice {
	t.Helper()
	i, err := invoice.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestWhatIsSignedIsRead(t *testing.T) {
	want := made()
	text := sign(t, want)
	got := parse(t, text)
	want.Payee = node().Public()
	same(t, got, want)
	if again := sign(t, got); again != text {
		t.Errorf("signed again it is\n%s\nnot\n%s", again, text)
	}
}

// Who reads an invoice, changes it and signs it anew says what he changed.
func TestAReadInvoiceCanBeChanged(t *testing.T) {
	i := parse(t, valid[5].text) // with a hash, a fallback and a route
	i.DescriptionHash, i.Description = nil, "cake"
	i.Expiry, i.FinalCLTV = 7, 99
	i.Fallbacks = nil
	i.Hints = append(i.Hints, i.Hints[0][:1])
	i.Unknown = []invoice.Field{{Type: 31, Words: []byte{1}}}
	i.Features = invoice.NewFeatures(0)[:0]
	got := parse(t, sign(t, i))
	i.Features = got.Features
	if len(got.Features) != 0 {
		t.Errorf("features are %x", got.Features)
	}
	i.Fallbacks = got.Fallbacks
	same(t, got, i)
}

func TestDefaults(t *testing.T) {
	i := invoice.Invoice{Network: invoice.Mainnet, Hash: specHash, Secret: specSecret}
	got := parse(t, sign(t, i))
	i.Payee, i.Expiry, i.FinalCLTV, i.Features = node().Public(), invoice.DefaultExpiry, invoice.DefaultFinalCLTV, got.Features
	same(t, got, i)
	if !strings.Contains(sign(t, got), "cqpj") { // c, one word, 18
		t.Error("a new invoice does not say its final CLTV")
	}
}

func TestAmounts(t *testing.T) {
	for amount, prefix := range map[money.Amount]string{
		0: "lnbc1", 1: "lnbc10p1", 99: "lnbc990p1", 100: "lnbc1n1", 12_300: "lnbc123n1", money.Sat * 100: "lnbc1u1",
		money.Sat * 2: "lnbc20n1", money.BTC / 1000: "lnbc1m1", money.BTC: "lnbc11", money.MaxAmount: "lnbc210000001", money.MaxAmount - 1: "lnbc20999999999999999990p1",
	} {
		i := made()
		i.Network, i.Amount = invoice.Mainnet, amount
		text := sign(t, i)
		if !strings.HasPrefix(text, prefix) || text[len(prefix)-1:][:1] != "1" {
			t.Errorf("%d msat is %.20s, want %s", amount, text, prefix)
		}
		if got := parse(t, text).Amount; got != amount {
			t.Errorf("%d msat is read as %d", amount, got)
		}
	}
}

// rewrite signs nothing: it puts a prefix and a body under a right checksum, so
// that what is refused is refused for what it says.
func rewrite(prefix string, body ...[]byte) string {
	words := append(make([]byte, 7), bytes.Join(body, nil)...)
	return invoice.Encode(prefix, append(words, make([]byte, 104)...))
}

func field(typ byte, words ...byte) []byte {
	return append([]byte{typ, byte(len(words) >> 5), byte(len(words) & 31)}, words...)
}

func TestRefused(t *testing.T) {
	zeros := make([]byte, 52)
	hash, secret, text := field(1, zeros...), field(16, zeros...), field(13)
	for name, c := range map[string]struct{ text, want string }{
		"empty":              {"", "separator"},
		"long":               {strings.Repeat("l", invoice.MaxLength+1), "the limit is"},
		"not bech32":         {"lnbc1bbbbbbbbbbbbbb", "not of bech32"},
		"no ln":              {rewrite("bc"), "not ln"},
		"network":            {rewrite("lnltc"), "unknown"},
		"leading zero":       {rewrite("lnbc01m"), "leading zeros"},
		"zero":               {rewrite("lnbc0"), "leading zeros"},
		"only a multiplier":  {rewrite("lnbcm"), "unknown"},
		"two multipliers":    {rewrite("lnbc1mm"), "not a number"},
		"sign":               {rewrite("lnbc2-1m"), "not a number"},
		"more than there is": {rewrite("lnbc21000001"), "can be"},
		"much more":          {rewrite("lnbc99999999999999999999m"), "not a number"},
		"pico of it":         {rewrite("lnbc21000000000000000010p"), "can be"},
		"no hash":            {rewrite("lnbc", secret, text), "no payment hash"},
		"no secret":          {rewrite("lnbc", hash, text), "no payment secret"},
		"no description":     {rewrite("lnbc", hash, secret), "description"},
		"two descriptions":   {rewrite("lnbc", hash, secret, text, field(23, zeros...)), "description"},
		"not UTF-8":          {rewrite("lnbc", hash, secret, field(13, 31, 31)), "description"},
		"two hashes":         {rewrite("lnbc", hash, hash, secret, text), "two fields"},
		"cut field":          {rewrite("lnbc", []byte{1, 0}), "middle of a field"},
		"promised field":     {rewrite("lnbc", []byte{1, 31, 31, 0}), "says 1023 words"},
		"expiry":             {rewrite("lnbc", field(6, bytes.Repeat([]byte{31}, 20)...)), "expiry"},
		"CLTV":               {rewrite("lnbc", field(24, 4, 0, 0, 0, 0, 0, 0)), "final CLTV"},
		"routes":             {rewrite("lnbc", bytes.Repeat(field(3, make([]byte, 82)...), invoice.MaxRoutes+1)), "too many routes"},
		"fallbacks":          {rewrite("lnbc", bytes.Repeat(field(9, make([]byte, 33)...), invoice.MaxFallbacks+1)), "too many fallback"},
		"unknown":            {rewrite("lnbc", bytes.Repeat(field(31), invoice.MaxUnknown+1)), "too many unknown"},
		"feature":            {rewrite("lnbc", hash, secret, text, field(5, 1)), "feature 0"},
		"zero signature":     {rewrite("lnbc", hash, secret, text), "no public key"},
	} {
		if _, err := invoice.Parse(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestNobodySignsThis(t *testing.T) {
	for want, change := range map[string]func(i *invoice.Invoice){
		"network":            func(i *invoice.Invoice) { i.Network = "ltc" },
		"amount":             func(i *invoice.Invoice) { i.Amount = money.MaxAmount + 1 },
		"made at":            func(i *invoice.Invoice) { i.At = 1 << 35 },
		"secret is zero":     func(i *invoice.Invoice) { i.Secret = [32]byte{} },
		"give one of them":   func(i *invoice.Invoice) { i.DescriptionHash = &cakeHash },
		"description is 640": func(i *invoice.Invoice) { i.Description = strings.Repeat("x", 640) },
		"UTF-8":              func(i *invoice.Invoice) { i.Description = "\xff" },
		"expiry":             func(i *invoice.Invoice) { i.Expiry = -1 },
		"metadata":           func(i *invoice.Invoice) { i.Metadata = make([]byte, 640) },
		"features":           func(i *invoice.Invoice) { i.Features = make([]byte, 640) },
		"33 routes":          func(i *invoice.Invoice) { i.Hints = make([][]invoice.Hint, 33) },
		"0 hops":             func(i *invoice.Invoice) { i.Hints = make([][]invoice.Hint, 1) },
		"13 hops":            func(i *invoice.Invoice) { i.Hints = [][]invoice.Hint{make([]invoice.Hint, 13)} },
		"17 fallback":        func(i *invoice.Invoice) { i.Fallbacks = make([]invoice.Fallback, 17) },
		"is none":            func(i *invoice.Invoice) { i.Fallbacks[0].Program = nil },
		"65 unknown":         func(i *invoice.Invoice) { i.Unknown = make([]invoice.Field, 65) },
		"type 32":            func(i *invoice.Invoice) { i.Unknown[0].Type = 32 },
		"fewer hints": func(i *invoice.Invoice) {
			i.Hints = slices.Repeat([][]invoice.Hint{make([]invoice.Hint, invoice.MaxHops)}, invoice.MaxRoutes)
		},
		"the key that signs": func(i *invoice.Invoice) {
			i.Payee = public("02f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9")
		},
	} {
		i := made()
		change(&i)
		if _, err := i.Sign(node()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// An invoice that names its payee counts only with the payee's own signature,
// and that in the one form it can have.
func TestTheNamedPayeeSigned(t *testing.T) {
	self := node().Public()
	i := made()
	i.Unknown = []invoice.Field{{Type: 19, Words: invoice.Words(nil, self[:])}} // n, as a reader finds it
	named := sign(t, i)
	got := parse(t, named)
	if got.Payee != self || len(got.Unknown) != 0 {
		t.Errorf("payee is %v", got.Payee)
	}
	if again := sign(t, got); again != named {
		t.Errorf("signed again it is\n%s\nnot\n%s", again, named)
	}
	foreign, err := i.Sign(node().Derive("another"))
	if err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string]string{"high S": withHighS(t, named), "another signer": foreign} {
		if _, err := invoice.Parse(other); err == nil || !strings.Contains(err.Error(), "signature is not of payee") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Without n both forms lead to the payee.
	i.Unknown = nil
	if got := parse(t, withHighS(t, sign(t, i))); got.Payee != self {
		t.Errorf("payee by a high S is %v", got.Payee)
	}
}

// withHighS makes the other signature that says the same.
func withHighS(t *testing.T, text string) string {
	t.Helper()
	prefix, words, err := invoice.Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	body := len(words) - 104
	sig := invoice.Bytes(nil, words[body:])
	order, _ := new(big.Int).SetString("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 16)
	order.Sub(order, new(big.Int).SetBytes(sig[32:64])).FillBytes(sig[32:64])
	sig[64] ^= 1
	return invoice.Encode(prefix, invoice.Words(words[:body:body], sig))
}

func TestExpired(t *testing.T) {
	i := parse(t, valid[1].text) // a minute
	for at, want := range map[step.Time]bool{0: false, 1496314658: false, 1496314718: false, 1496314719: true, 1 << 40: true} {
		if got := i.Expired(at * step.Second); got != want {
			t.Errorf("expired at %d: %v", at, got)
		}
	}
	i.At, i.Expiry = invoice.MaxAt, invoice.MaxExpiry
	if i.Expired(math.MaxInt64) {
		t.Error("the longest expiry overflows")
	}
}

func TestFeatures(t *testing.T) {
	f := invoice.NewFeatures(99, 8, 14)
	if hex.EncodeToString(f) != "08000000000000000000004100" {
		t.Errorf("features are %x", []byte(f))
	}
	if !f.Has(8) || !f.Has(98) || f.Has(16) || f.Bit(98) || f.Has(1000) {
		t.Error("wrong bits")
	}
	for bit := range 200 {
		i := made()
		i.Features = invoice.NewFeatures(bit)
		got, err := invoice.Parse(sign(t, i))
		knows := bit%2 == 1 || bit == 8 || bit == 14 || bit == 16 || bit == 48
		if (err == nil) != knows || knows && !bytes.Equal(got.Features, i.Features) {
			t.Errorf("feature %d: %v, %x", bit, err, []byte(got.Features))
		}
	}
}

// Whatever the numbers are, they come back.
func TestNumbersComeBack(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		i := made()
		i.Amount = money.Amount(random.Uint64() >> (random.IntN(50) + 14) % uint64(money.MaxAmount))
		i.At = random.Int64N(invoice.MaxAt + 1)
		i.Expiry = 1 + random.Int64()>>(random.IntN(60)+2)
		i.FinalCLTV = 1 + random.Uint32()>>(1+random.IntN(30))
		i.Description = strings.Repeat("é", random.IntN(300))
		got := parse(t, sign(t, i))
		i.Payee = got.Payee
		same(t, got, i)
	}
}

// FuzzParse takes a body in whatever words, puts it under a right checksum, and
// wants of what parses that it parses again once signed.
func FuzzParse(f *testing.F) {
	for _, v := range valid {
		f.Add(v.text, []byte{})
	}
	for _, v := range invalid {
		f.Add(v.text, []byte{})
	}
	f.Add("lnbc1m", append(bytes.Join([][]byte{make([]byte, 7), field(1, make([]byte, 52)...), field(16, bytes.Repeat([]byte{3}, 52)...), field(13)}, nil), bytes.Repeat([]byte{1}, 104)...))
	f.Fuzz(func(t *testing.T, text string, body []byte) {
		if len(body) > 0 {
			for k := range body {
				body[k] &= 31
			}
			text = invoice.Encode(strings.ToLower(text), body)
		}
		i, err := invoice.Parse(text)
		if err != nil || i.Secret == [32]byte{} {
			return
		}
		i.Payee = keys.Public{}
		again, err := i.Sign(node())
		if err != nil {
			t.Fatalf("%s does not sign: %v", text, err)
		}
		got, err := invoice.Parse(again)
		if err != nil {
			t.Fatalf("%s, signed again, is %s: %v", text, again, err)
		}
		i.Payee = node().Public()
		same(t, got, i)
		if third, err := got.Sign(node()); err != nil || third != again {
			t.Errorf("%s, signed again, is %s: %v", again, third, err)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := invoice.Parse(valid[5].text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	i, err := invoice.Parse(valid[5].text)
	if err != nil {
		b.Fatal(err)
	}
	i.Payee = keys.Public{}
	key := node()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := i.Sign(key); err != nil {
			b.Fatal(err)
		}
	}
}
