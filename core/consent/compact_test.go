package consent_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/veraison/go-cose"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/consent"
	"coinop.dev/core/fragment"
	"coinop.dev/core/money"
)

func public(g *gateway) (all []descriptor.Descriptor) {
	for _, a := range g.config.Accounts {
		all = append(all, a.Descriptor())
	}
	return all
}

func frames(t testing.TB, b []byte) int {
	f, err := fragment.Split(1, b, fragment.FrameSize)
	if err != nil {
		t.Fatal(err)
	}
	return len(f)
}

// A round by radio: the compact proposal comes to the same consent as the
// message, and the compact consent is the consent.
func TestARoundByRadio(t *testing.T) {
	noProof := usual
	noProof.NeedProof = false
	wallet := secret("wallet")
	for _, c := range []struct {
		name    string
		account int
		policy  consent.Policy
		most    int // frames of the proposal
	}{
		{"taproot, one input, two outputs", tr, noProof, 5},
		{"wpkh, one input, two outputs", wpkh, noProof, 9},
		{"sh wpkh, one input, two outputs", shwpkh, noProof, 9},
		{"pkh, one input, two outputs", pkh, noProof, 9},
		{"taproot with a proof", tr, usual, 12},
		{"wpkh with a proof", wpkh, usual, 12},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGateway(t, c.policy)
			d := honest(g, "radio", g.fund(c.account, 12, 100_000))
			g.bury(3)
			if !c.policy.NeedProof {
				d.Proofs = nil
				if c.account == tr {
					d.packet.Inputs[0].NonWitnessUtxo = nil
				}
			}
			p := d.done(t)
			small, err := p.Compact(public(g), consent.ES256K(wallet))
			if err != nil {
				t.Fatal(err)
			}
			back, err := consent.ExpandProposal(small, public(g), consent.ES256KOf(wallet.Public()))
			if err != nil {
				t.Fatal(err)
			}
			given, _ := g.consented(d)
			again, ok := g.answer(back).(consent.Consent)
			if !ok || !bytes.Equal(again.Append(nil), given.Append(nil)) {
				t.Fatalf("the compact form got %+v", g.last())
			}
			answer, err := given.Compact()
			if err != nil {
				t.Fatal(err)
			}
			read, err := consent.ParseCompactConsent(answer)
			if err != nil || !bytes.Equal(read.Append(nil), given.Append(nil)) || read.Check(d.tx().TxHash(), g.config.Identity.Public()) != nil {
				t.Fatalf("the consent is read as %+v, %v", read, err)
			}
			t.Logf("proposal %d bytes, compact %d in %d frames; consent %d bytes, compact %d in %d frames",
				len(p.Append(nil)), len(small), frames(t, small), len(given.Append(nil)), len(answer), frames(t, answer))
			if n := frames(t, small); n > c.most {
				t.Errorf("the proposal takes %d frames; %d were enough", n, c.most)
			}
			if n := frames(t, answer); n > 5 {
				t.Errorf("the consent takes %d frames", n)
			}
		})
	}
}

// All that a signer looks at comes through: many inputs of all kinds, others'
// inputs, a replacement, a lock time.
func TestCompactKeepsEverything(t *testing.T) {
	policy := usual
	policy.Joint = true
	g := newGateway(t, policy)
	var coins []coin
	for account := range g.config.Accounts {
		coins = append(coins, g.fund(account, uint32(20+account), 100_000))
	}
	coins = append(coins, g.foreign(5_000))
	g.bury(3)
	g.tell(consent.Expect{Order: orderID("all"), Script: shop("shop"), Amount: 50_000 * money.Sat})
	d := g.draft("all", coins...).pay("all", shop("shop"), 50_000).change(g.script(tr, 1, 3), 349_000)
	d.output(shop("other"), 4_000)
	d.tx().LockTime, d.tx().Version, d.tx().TxIn[1].Sequence = 3, 1, 0xffffffff
	d.packet.Inputs[0].SighashType = 1
	d.Orders[0].Index = 77
	p := d.done(t)
	stamp := secret("wallet").Stamp("radio")
	small, err := p.Compact(public(g), consent.EdDSA(stamp))
	if err != nil {
		t.Fatal(err)
	}
	back, err := consent.ExpandProposal(small, public(g), consent.EdDSAOf(stamp.Public()))
	if err != nil {
		t.Fatal(err)
	}
	given, _ := g.consented(d)
	if again, ok := g.answer(back).(consent.Consent); !ok || !bytes.Equal(again.Append(nil), given.Append(nil)) {
		t.Fatalf("the compact form got %+v", g.last())
	}
	twice, err := back.Compact(public(g), consent.EdDSA(stamp))
	if err != nil || !bytes.Equal(twice, small) {
		t.Errorf("compact again it is %x, %v", twice, err)
	}
}

// What the wallet did not sign is not read, whatever was changed on the air.
func TestCompactIsTheWallets(t *testing.T) {
	g := newGateway(t, usual)
	d := honest(g, "radio", g.fund(tr, 12, 100_000))
	p := d.done(t)
	wallet, thief := secret("wallet"), secret("thief")
	small, err := p.Compact(public(g), consent.ES256K(wallet))
	if err != nil {
		t.Fatal(err)
	}
	for i := range small {
		bad := bytes.Clone(small)
		bad[i] ^= 1
		if _, err := consent.ExpandProposal(bad, public(g), consent.ES256KOf(wallet.Public())); err == nil {
			t.Errorf("byte %d was changed and nobody saw it", i)
		}
	}
	for name, v := range map[string]cose.Verifier{
		"another key":       consent.ES256KOf(thief.Public()),
		"another algorithm": consent.EdDSAOf(wallet.Stamp("radio").Public()),
	} {
		if _, err := consent.ExpandProposal(small, public(g), v); err == nil {
			t.Errorf("%s took it", name)
		}
	}
}

// The mark binds signatures, counter and transaction.
func TestTheMarkBinds(t *testing.T) {
	g := newGateway(t, usual)
	d := honest(g, "radio", g.fund(tr, 12, 100_000))
	g.bury(3)
	given, _ := g.consented(d)
	txid, device := d.tx().TxHash(), g.config.Identity.Public()
	for name, change := range map[string]func(c *consent.Consent){
		"ID": func(c *consent.Consent) { c.ID[0]++ }, "counter": func(c *consent.Consent) { c.Counter++ },
		"signature": func(c *consent.Consent) { c.Signatures = [][]byte{bytes.Repeat([]byte{1}, 64)} },
		"mark":      func(c *consent.Consent) { c.Mark[0]++ },
	} {
		c := given
		change(&c)
		if c.Check(txid, device) == nil {
			t.Errorf("with another %s the mark still fits", name)
		}
	}
	if txid[0]++; given.Check(txid, device) == nil {
		t.Error("the mark fits another transaction")
	}
}

// The first two bytes of COSE_Sign1 with its tag, and the protected header that
// says ES256K (RFC 9052, section 4.2; RFC 8812, section 3.2).
func TestCompactIsCOSE(t *testing.T) {
	g := newGateway(t, usual)
	d := honest(g, "radio", g.fund(tr, 12, 100_000))
	g.bury(3)
	given, _ := g.consented(d)
	b, err := given.Compact()
	if text := hex.EncodeToString(b); err != nil || !strings.HasPrefix(text, "d28444a101382ea0") {
		t.Errorf("it begins with %.20s, %v", text, err)
	}
}

func FuzzParseCompactConsent(f *testing.F) {
	for _, m := range samples() {
		if c, ok := m.(consent.Consent); ok {
			b, err := c.Compact()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := consent.ParseCompactConsent(raw)
		if err != nil {
			return
		}
		if again, err := c.Compact(); err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%x is read, and written as %x, %v", raw, again, err)
		}
	})
}
