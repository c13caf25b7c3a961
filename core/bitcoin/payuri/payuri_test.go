package payuri_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"coinop.dev/core/bitcoin/payuri"
	"coinop.dev/core/money"
)

// The example address of BIP 21 and 321. Its checksum is wrong, and always was:
// that is not for this package to say.
const luke = "175tWpb8K1S7NmH4Zx6rewF9WQrcZv245W"

const (
	bc1q = "bc1qufgy354j3kmvuch987xe4s40836x3h0lg8f5n2"
	bc1p = "bc1p5swkugezn97763tl0yty6556856uug0q6jflljvep9m4p7339x5qzyrh4g"
)

// BIP 321, "Examples", which has all of BIP 21's.
func TestExamplesOfBIP321(t *testing.T) {
	for text, want := range map[string]payuri.URI{
		"bitcoin:" + luke:                                {Address: luke},
		"bitcoin:" + luke + "?label=Luke-Jr":             {Address: luke, Label: "Luke-Jr"},
		"bitcoin:" + luke + "?amount=20.3&label=Luke-Jr": {Address: luke, Label: "Luke-Jr", Amount: 2_030_000_000 * money.Sat},
		"bitcoin:" + luke + "?amount=50&label=Luke-Jr&message=Donation%20for%20project%20xyz": {
			Address: luke, Label: "Luke-Jr", Message: "Donation for project xyz", Amount: 50 * money.BTC},
		"bitcoin:" + luke + "?lightning=lnbc420bogusinvoice": {Address: luke, Lightning: []string{"lnbc420bogusinvoice"}},
		"bitcoin:?lightning=lnbc420bogusinvoice":             {Lightning: []string{"lnbc420bogusinvoice"}},
		"bitcoin:?lno=lno1bogusoffer":                        {Offers: []string{"lno1bogusoffer"}},
		"bitcoin:?lno=lno1bogusoffer&sp=sp1qsilentpayment":   {Offers: []string{"lno1bogusoffer"}, Silent: []string{"sp1qsilentpayment"}},
		"bitcoin:?sp=sp1qsilentpayment":                      {Silent: []string{"sp1qsilentpayment"}},
		"bitcoin:" + luke + "?sp=sp1qsilentpayment":          {Address: luke, Silent: []string{"sp1qsilentpayment"}},
		"bitcoin:" + luke + "?somethingyoudontunderstand=50&somethingelseyoudontget=999": {
			Address: luke, Others: []payuri.Param{{Key: "somethingyoudontunderstand", Value: "50"}, {Key: "somethingelseyoudontget", Value: "999"}}},
		"bitcoin:?bc=" + bc1q + "&bc=" + bc1p: {Addresses: []string{bc1q, bc1p}},
		"BITCOIN:BC1QUFGY354J3KMVUCH987XE4S40836X3H0LG8F5N2?BC=BC1P5SWKUGEZN97763TL0YTY6556856UUG0Q6JFLLJVEP9M4P7339X5QZYRH4G": {
			Address: bc1q, Addresses: []string{bc1p}},
		"BITCOIN:?BC=BC1QUFGY354J3KMVUCH987XE4S40836X3H0LG8F5N2&BC=BC1P5SWKUGEZN97763TL0YTY6556856UUG0Q6JFLLJVEP9M4P7339X5QZYRH4G": {
			Addresses: []string{bc1q, bc1p}},
		"bitcoin:?tb=tb1qghfhmd4zh7ncpmxl3qzhmq566jk8ckq4gafnmg": {Addresses: []string{"tb1qghfhmd4zh7ncpmxl3qzhmq566jk8ckq4gafnmg"}},
		"bitcoin:" + luke + "?pop=initiatingapp%3a":              {Address: luke, Pop: "initiatingapp:"},
		"bitcoin:?lightning=lnbc420bogusinvoice&pop=callbackuri%3abody%3fpop=": {
			Lightning: []string{"lnbc420bogusinvoice"}, Pop: "callbackuri:body?pop="},
		"bitcoin:" + luke + "?pop=https%3aiwantyouripaddress.com": {Address: luke, Pop: "https:iwantyouripaddress.com"},
		// Not of the BIPs.
		"bItCoIn:" + luke + "?AmOuNt=1.":         {Address: luke, Amount: money.BTC},
		"bitcoin:" + luke + "?":                  {Address: luke},
		"bitcoin:" + luke + "?&&label=&":         {Address: luke},
		"bitcoin:" + luke + "?flag":              {Address: luke, Others: []payuri.Param{{Key: "flag"}}},
		"bitcoin:" + luke + "?x=1&X=2":           {Address: luke, Others: []payuri.Param{{Key: "x", Value: "1"}, {Key: "x", Value: "2"}}},
		"bitcoin:" + luke + "?label=a+b%2Bc%26d": {Address: luke, Label: "a+b+c&d"},
		"bitcoin:" + luke + "?label=Z%C3%BCrich": {Address: luke, Label: "Zürich"},
		"bitcoin:" + luke + "?pay=paycode":       {Address: luke, Private: []string{"paycode"}},
		"bitcoin:" + luke + "?order=000102030405060708090A0B0C0D0E0F": {
			Address: luke, Order: money.OrderID{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}},
		"bitcoin:?bcrt=bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080": {Addresses: []string{"bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"}},
		"BITCOIN:?LIGHTNING=LNBC1&LNO=LNO1":                          {Lightning: []string{"lnbc1"}, Offers: []string{"lno1"}},
	} {
		got, err := payuri.Parse(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s\n gives %+v, %v\n want  %+v", text, got, err, want)
			continue
		}
		for name, build := range map[string]func() (string, error){"Build": got.Build, "QR": got.QR} {
			built, err := build()
			if err != nil {
				t.Errorf("%s: %v", text, err)
				continue
			}
			if again, err := payuri.Parse(built); err != nil || !reflect.DeepEqual(again, want) {
				t.Errorf("%s\n %s is %s,\n which gives %+v, %v", text, name, built, again, err)
			}
		}
	}
}

func TestInvalidURIs(t *testing.T) {
	for text, want := range map[string]string{
		// BIP 321, "Examples" and "Invalid URIs".
		"bitcoin:" + luke + "?req-somethingyoudontunderstand=50&req-somethingelseyoudontget=999": `requires "req-somethingyoudontunderstand"`,
		"bitcoin:" + luke + "?label=Luke-Jr&label=Matt":                                          "label twice",
		"bitcoin:" + luke + "?amount=42&amount=10":                                               "amount twice",
		"bitcoin:" + luke + "?amount=42&amount=42":                                               "amount twice",
		"bitcoin:" + luke + "?pop=callback%3a&req-pop=callback%3a":                               "pop twice",
		"bitcoin:?bc=tb1qghfhmd4zh7ncpmxl3qzhmq566jk8ckq4gafnmg":                                 "begins with bc1",
		"bitcoin:" + luke + "?req-pop=https%3aevilwebsite.com":                                   `requires "req-pop"`,
		"bitcoin:" + luke + "?amount=50,000.00":                                                  "not BTC in digits",
		// A required parameter in disguise.
		"bitcoin:" + luke + "?REQ-x=1":             `requires "req-x"`,
		"bitcoin:" + luke + "?%72eq-x":             `requires "req-x"`,
		"bitcoin:" + luke + "?req-amount=1":        `requires "req-amount"`,
		"bitcoin:" + luke + "?req-":                `requires "req-"`,
		"bitcoin:" + luke + "?AMOUNT=1&amount=1":   "amount twice",
		"bitcoin:" + luke + "?%61mount=1&amount=1": "amount twice",
		"bitcoin:" + luke + "?message=&message=x":  "message twice",
		"bitcoin:" + luke + "?order=" + strings.Repeat("11", 16) + "&ORDER=" + strings.Repeat("11", 16): "order twice",
		// Amounts.
		"bitcoin:" + luke + "?amount=":                            "not BTC in digits",
		"bitcoin:" + luke + "?amount=.":                           "not BTC in digits",
		"bitcoin:" + luke + "?amount":                             "not BTC in digits",
		"bitcoin:" + luke + "?amount=1e3":                         "not BTC in digits",
		"bitcoin:" + luke + "?amount=-1":                          "not BTC in digits",
		"bitcoin:" + luke + "?amount=+1":                          "not BTC in digits",
		"bitcoin:" + luke + "?amount=1.2.3":                       "not BTC in digits",
		"bitcoin:" + luke + "?amount=0x1":                         "not BTC in digits",
		"bitcoin:" + luke + "?amount=%D9%A1":                      "not BTC in digits", // an Arabic one
		"bitcoin:" + luke + "?amount=0":                           "leave it out",
		"bitcoin:" + luke + "?amount=0.000000001":                 "finer than a satoshi",
		"bitcoin:" + luke + "?amount=21000000.00000001":           "more than the 21000000",
		"bitcoin:" + luke + "?amount=92233720368.54775808":        "more than the 21000000",
		"bitcoin:" + luke + "?amount=" + strings.Repeat("9", 400): "more than the 21000000",
		// Order.
		"bitcoin:" + luke + "?order=12":                          "order id",
		"bitcoin:" + luke + "?order=" + strings.Repeat("00", 16): "order id is zero",
		"bitcoin:" + luke + "?order=" + strings.Repeat("zz", 16): "invalid byte",
		// Form.
		"":                                                 "does not begin with the scheme",
		"bitcoin":                                          "does not begin with the scheme",
		"lightning:lnbc1":                                  "does not begin with the scheme",
		luke:                                               "does not begin with the scheme",
		"bitcoin:":                                         "no address",
		"bitcoin:?label=x":                                 "no address",
		"bitcoin:?new=x":                                   "no address",
		"bitcoin://" + luke:                                "right after the scheme",
		"bitcoin: " + luke:                                 "right after the scheme",
		"bitcoin:" + luke + "#x":                           "right after the scheme",
		"bitcoin:" + strings.Repeat("1", 91):               "up to 90",
		"bitcoin:" + luke + "?label=a b":                   "write it as %20",
		"bitcoin:" + luke + "?label=Zürich":                "write it as %C3",
		"bitcoin:" + luke + "?label=x#y":                   "write it as %23",
		"bitcoin:" + luke + "?label=%":                     "two hex digits",
		"bitcoin:" + luke + "?label=%zz":                   "two hex digits",
		"bitcoin:" + luke + "?label=%ff":                   "not UTF-8",
		"bitcoin:" + luke + "?x=%ff":                       "not UTF-8",
		"bitcoin:" + luke + "?=x":                          "without a name",
		"bitcoin:" + luke + "?label=%1b%5b2J":              "control characters", // clears a terminal
		"bitcoin:" + luke + "?message=%c2%9b2J":            "control characters",
		"bitcoin:" + luke + "?lightning=":                  "empty",
		"bitcoin:" + luke + "?lno=lno1%20x":                "beyond ASCII",
		"bitcoin:" + luke + "?bc":                          "begins with bc1",
		"bitcoin:" + luke + "?bc=Bc1qx":                    "begins with bc1",
		"bitcoin:" + luke + "?" + strings.Repeat("x&", 40): "the limit is 32",
		"bitcoin:" + luke + "?label=" + strings.Repeat("x", 9000): "the limit is 8192",
	} {
		u, err := payuri.Parse(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: %v; want %q", text, err, want)
		}
		if err != nil && (!reflect.DeepEqual(u, payuri.URI{}) || strings.ContainsAny(err.Error(), "\x1b\n")) {
			t.Errorf("%.80s: error %q comes with %+v", text, err, u)
		}
	}
}

func TestAmountsAreExactToTheSatoshi(t *testing.T) {
	for text, sats := range map[string]int64{
		"0.00000001": 1, "0.1": 10_000_000, "20.3": 2_030_000_000, ".5": 50_000_000, "00.50": 50_000_000,
		"20999999.99999999": 2_099_999_999_999_999, "21000000": 2_100_000_000_000_000,
		"0.29": 29_000_000, "1.15": 115_000_000, // floats that round down
		"0.100000000000": 10_000_000,
	} {
		u, err := payuri.Parse("bitcoin:" + luke + "?amount=" + text)
		if err != nil || u.Amount != money.Amount(sats)*money.Sat {
			t.Errorf("%s BTC is %s, %v; want %d sat", text, u.Amount, err, sats)
		}
	}
	rng := rand.New(rand.NewPCG(21, 0))
	for range 5000 {
		sats := 1 + rng.Int64N(money.MaxAmount.Sats())>>rng.IntN(50)
		amount, _ := money.FromSats(sats)
		text, err := payuri.URI{Address: luke, Amount: amount}.Build()
		if err != nil {
			t.Fatal(err)
		}
		if u, err := payuri.Parse(text); err != nil || u.Amount != amount {
			t.Fatalf("%d sat is %s and comes back as %s, %v", sats, text, u.Amount, err)
		}
		if strings.HasSuffix(text, ".") || strings.Contains(text, ".") && strings.HasSuffix(text, "0") {
			t.Fatalf("%d sat is %s", sats, text)
		}
	}
}

func TestWhatCannotBeWrittenIsNotBuilt(t *testing.T) {
	for name, c := range map[string]struct {
		uri  payuri.URI
		want string
	}{
		"msat":              {payuri.URI{Address: luke, Amount: 1500}, "1500 msat; on the chain it must be whole satoshi"},
		"too much":          {payuri.URI{Address: luke, Amount: money.MaxAmount + money.Sat}, "at most"},
		"nothing":           {payuri.URI{Label: "x"}, "no address"},
		"base58 twice":      {payuri.URI{Address: luke, Addresses: []string{luke}}, "only one of base58"},
		"hidden amount":     {payuri.URI{Address: luke, Others: []payuri.Param{{Key: "amount", Value: "1"}}}, "Others is for the rest"},
		"hidden invoice":    {payuri.URI{Address: luke, Others: []payuri.Param{{Key: "lightning", Value: "x"}}}, "Others is for the rest"},
		"required":          {payuri.URI{Address: luke, Others: []payuri.Param{{Key: "req-x", Value: "1"}}}, "Others is for the rest"},
		"upper-case key":    {payuri.URI{Address: luke, Others: []payuri.Param{{Key: "X", Value: "1"}}}, "Others is for the rest"},
		"parameter in path": {payuri.URI{Address: luke + "?amount=1"}, "letters and digits"},
		"too long":          {payuri.URI{Address: luke, Message: strings.Repeat("ü", 2000)}, "the limit is 8192"},
		"too many":          {payuri.URI{Address: luke, Lightning: strings.Fields(strings.Repeat("x ", 33))}, "the limit is 32"},
	} {
		if text, err := c.uri.Build(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q, %v; want %q", name, text, err, c.want)
		}
		if text, err := c.uri.QR(); err == nil {
			t.Errorf("%s as QR is %s", name, text)
		}
	}
}

// Upper case makes a QR code smaller; where case means something it stays.
func TestQRForm(t *testing.T) {
	order := money.OrderID{0xab, 0xcd}
	for want, u := range map[string]payuri.URI{
		"BITCOIN:" + strings.ToUpper(bc1q):                             {Address: bc1q},
		"BITCOIN:" + strings.ToUpper(bc1q) + "?AMOUNT=0.001":           {Address: bc1q, Amount: 100_000 * money.Sat},
		"BITCOIN:?ORDER=ABCD" + strings.Repeat("0", 28) + "&LNO=LNO1X": {Offers: []string{"lno1x"}, Order: order},
		"bitcoin:" + luke:                      {Address: luke},
		"bitcoin:" + bc1q + "?label=Caf%C3%A9": {Address: bc1q, Label: "Café"},
		"bitcoin:" + bc1q + "?x=y":             {Address: bc1q, Others: []payuri.Param{{Key: "x", Value: "y"}}},
		"bitcoin:?lno=LnO1":                    {Offers: []string{"LnO1"}},
	} {
		got, err := u.QR()
		if err != nil || got != want {
			t.Errorf("%+v is %s, %v; want %s", u, got, err, want)
		}
		if back, err := payuri.Parse(got); err != nil || !reflect.DeepEqual(back, u) {
			t.Errorf("%s comes back as %+v, %v; want %+v", got, back, err, u)
		}
	}
}

func TestAnyURIComesBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(321, 0))
	pick := func(alphabet string, n int) string {
		runes, out := []rune(alphabet), make([]rune, rng.IntN(n))
		for i := range out {
			out[i] = runes[rng.IntN(len(runes))]
		}
		return string(out)
	}
	text := func() string { return pick("abcXYZ019 &=?#%+/:;,@\n\tü€😀\"'<>", 20) }
	ways := func(prefix string) (out []string) {
		for range rng.IntN(3) {
			out = append(out, prefix+pick("qpzry9x8gf2tvdw0s3jn54khce6mua7l", 60))
		}
		return out
	}
	for range 3000 {
		u := payuri.URI{
			Address: []string{luke, bc1q, bc1p, "3EktnHQD7RiAE6uzMj2ZifT9YgRrkSgzQX"}[rng.IntN(4)],
			Amount:  money.Amount(rng.Int64N(1e12)) * money.Sat,
			Label:   text(), Message: text(), Pop: text(),
			Addresses: ways("bc1q"), Lightning: ways("lnbc1"), Offers: ways("lno1"), Silent: ways("sp1q"), Private: ways("pay"),
		}
		for i := range rng.IntN(4) {
			u.Others = append(u.Others, payuri.Param{Key: fmt.Sprintf("x%d%s", i, strings.ToLower(text())), Value: text()})
		}
		if rng.IntN(2) == 0 {
			u.Order[rng.IntN(16)] = byte(1 + rng.IntN(255))
		}
		for _, build := range []func() (string, error){u.Build, u.QR} {
			built, err := build()
			if err != nil {
				t.Fatalf("%+v: %v", u, err)
			}
			if back, err := payuri.Parse(built); err != nil || !reflect.DeepEqual(back, u) {
				t.Fatalf("%s\n comes back as %+v, %v\n want %+v", built, back, err, u)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"bitcoin:" + luke + "?amount=50&label=Luke-Jr&message=Donation%20for%20project%20xyz",
		"BITCOIN:BC1QUFGY354J3KMVUCH987XE4S40836X3H0LG8F5N2?BC=BC1P5SWKUGEZN97763TL0YTY6556856UUG0Q6JFLLJVEP9M4P7339X5QZYRH4G",
		"bitcoin:?lightning=lnbc420bogusinvoice&pop=callbackuri%3abody%3fpop=",
		"bitcoin:?lno=lno1bogusoffer&sp=sp1qsilentpayment&x=1&X=2&flag&req-x",
		"bitcoin:" + luke + "?order=000102030405060708090A0B0C0D0E0F&tb=TB1",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := payuri.Parse(text)
		if err != nil {
			return
		}
		if u.Amount%money.Sat != 0 || u.Amount > money.MaxAmount {
			t.Fatalf("amount is %s", u.Amount)
		}
		for _, build := range []func() (string, error){u.Build, u.QR} {
			built, err := build()
			if err != nil {
				if len(text) < payuri.MaxText/4 { // encoding makes it longer, at most three times
					t.Fatalf("%q: %v", text, err)
				}
				return
			}
			if again, err := payuri.Parse(built); err != nil || !reflect.DeepEqual(again, u) {
				t.Fatalf("%q\n is %q\n and comes back as %+v, %v\n want %+v", text, built, again, err, u)
			}
		}
	})
}
