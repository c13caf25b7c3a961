package descriptor_test

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/btcutil/v2/hdkeychain"
	"github.com/btcsuite/btcd/chaincfg/v2"

	"coinop.dev/core/bitcoin/descriptor"
)

var mainnet = &chaincfg.MainNetParams

func parse(t *testing.T, text string) descriptor.Descriptor {
	t.Helper()
	d, err := descriptor.Parse(text, mainnet)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return d
}

// public turns the private keys of a vector into public ones, derived as far as
// its hardened steps go, as BIP 380 wants it ("Normalization").
func public(t *testing.T, xprv string, hardened ...uint32) string {
	t.Helper()
	k, err := hdkeychain.NewKeyFromString(xprv)
	for _, step := range hardened {
		if err == nil {
			k, err = k.Derive(step)
		}
	}
	if err == nil {
		k, err = k.Neuter()
	}
	if err != nil {
		t.Fatal(err)
	}
	return k.String()
}

// The keys that the vectors of BIP 380 to 389 share.
const (
	single   = "03a34b99f22c790c4e36b2b3c2c35a36db06226e41c692fc82b8b56ac1c540c5bd"
	fat      = "04a34b99f22c790c4e36b2b3c2c35a36db06226e41c692fc82b8b56ac1c540c5bd5b8dec5235a0fa8722476c7709c02559e3aa73aa03918ba2d492eea75abea235"
	wif      = "L4rK1yDtCWekvXuE6oXD9jCYfFNV2cWRpVuPLBcCU2z8TrisoyY1"
	fatWIF   = "5KYZdUEo39z3FPrtuX2QbbwGnNP5zTd7yyr2SC1j299sBCnWjss"
	xpub     = "xpub6ERApfZwUNrhLCkDtcHTcxd75RbzS1ed54G1LkBUHQVHQKqhMkhgbmJbZRkrgZw4koxb5JaHWkY4ALHY2grBGRjaDMzQLcgJvLJuZZvRcEL"
	xprv     = "xprvA1RpRA33e1JQ7ifknakTFpgNXPmW2YvmhqLQYMmrj4xJXXWYpDPS3xz7iAxn8L39njGVyuoseXzU6rcxFLJ8HFsTjSyQbLYnMpCqE2VbFWc"
	children = "xpub69H7F5d8KSRgmmdJg2KhpAK8SR3DjMwAdkxj3ZuxV27CprR9LgpeyGmXUbC6wb7ERfvrnKZjXoUmmDznezpbZb7ap6r1D3tgFxHmwMkQTPH"
	root1    = "xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5kejMRNNU3TGtRBeJgk33yuGBxrMPHi"
	root2    = "xprv9s21ZrQH143K31xYSDQpPDxsXRTUcvj2iNHm5NUtrGiGG5e2DtALGdso3pGz6ssrdK4PFmM8NSpSBHNqPqm55Qn3LqFtT2emdEXVYsCzC2U"
)

// "Valid descriptors followed by the scripts they produce": BIP 381, 382 and
// 386, for the forms that are supported; those with private keys after the
// normalization of BIP 380.
func TestScriptsOfTheBIPs(t *testing.T) {
	for _, v := range []struct {
		text    string
		scripts []string
	}{
		{"pkh([deadbeef/1/2'/3/4']" + single + ")", []string{"76a9149a1c78a507689f6f54b847ad1cef1e614ee23f1e88ac"}},
		{"pkh([deadbeef/1/2h/3/4h]" + single + ")", []string{"76a9149a1c78a507689f6f54b847ad1cef1e614ee23f1e88ac"}},
		{"pkh([bd16bee5/2147483647h]xpub69H7F5dQzmVd3vPuLKtcXJziMEQByuDidnX3YdwgtNsecY5HRGtAAQC5mXTt4dsv9RzyjgDjAQs9VGVV6ydYCHnprc9vvaA5YtqWyL6hyds/0)",
			[]string{"76a914ebdc90806a9c4356c1c88e42216611e1cb4c1c1788ac"}},
		{"pkh(" + public(t, root2, 2147483647|descriptor.Hardened) + "/0)", []string{"76a914ebdc90806a9c4356c1c88e42216611e1cb4c1c1788ac"}},
		{"wpkh(" + single + ")", []string{"00149a1c78a507689f6f54b847ad1cef1e614ee23f1e"}},
		{"wpkh([ffffffff/13']" + public(t, "xprv9vHkqa6EV4sPZHYqZznhT2NPtPCjKuDKGY38FBWLvgaDx45zo9WQRUT3dKYnjwih2yJD9mkrocEZXo1ex8G81dwSM1fwqWpWkeS3v86pgKt") + "/1/2/0)",
			[]string{"0014326b2249e3a25d5dc60935f044ee835d090ba859"}},
		{"wpkh([ffffffff/13']" + children + "/1/2/*)", []string{
			"0014326b2249e3a25d5dc60935f044ee835d090ba859",
			"0014af0bd98abc2f2cae66e36896a39ffe2d32984fb7",
			"00141fa798efd1cbf95cebf912c031b8a4a6e9fb9f27",
		}},
		{"sh(wpkh(" + public(t, root1, 10, 20, 30, 40, 0|descriptor.Hardened) + "))", []string{"a9149a4d9901d6af519b2a23d4a2f51650fcba87ce7b87"}},
		{"sh(wpkh(" + public(t, root1, 10, 20, 30, 40, 1|descriptor.Hardened) + "))", []string{"a914bed59fc0024fae941d6e20a3b44a109ae740129287"}},
		{"sh(wpkh(" + public(t, root1, 10, 20, 30, 40, 2|descriptor.Hardened) + "))", []string{"a9148483aa1116eb9c05c482a72bada4b1db24af654387"}},
		{"tr(" + single[2:] + ")", []string{"512077aab6e066f8a7419c5ab714c12c67d25007ed55a43cadcacb4d7a970a093f11"}},
		{"tr(" + single + ")", []string{"512077aab6e066f8a7419c5ab714c12c67d25007ed55a43cadcacb4d7a970a093f11"}},
		{"tr(02" + single[2:] + ")", []string{"512077aab6e066f8a7419c5ab714c12c67d25007ed55a43cadcacb4d7a970a093f11"}},
	} {
		d := parse(t, v.text)
		for i, want := range v.scripts {
			s, err := d.At(0, uint32(i))
			if err != nil || hex.EncodeToString(s.Script) != want {
				t.Errorf("%s script %d is %x, %v; want %s", v.text, i, s.Script, err, want)
			}
		}
		if again := parse(t, d.String()); again.String() != d.String() {
			t.Errorf("%s comes back as %s", d, again)
		}
		if _, err := d.At(1, 0); err == nil {
			t.Errorf("%s has a branch 1", v.text)
		}
		if _, err := d.At(0, 3); (err == nil) != d.Ranged() {
			t.Errorf("%s script 3: %v", v.text, err)
		}
	}
}

// BIP 389: "Valid multipath descriptors followed by the descriptors they expand
// into".
func TestBranchesExpandAsInBIP389(t *testing.T) {
	const three = "xpub661MyMwAqRbcFW31YEwpkMuc5THy2PSt5bDMsktWQcFF8syAmRUapSCGu8ED9W6oDMSgv6Zz8idoc4a6mr8BDzTJY47LJhkJ8UB7WEGuduB"
	for text, into := range map[string][]string{
		"wpkh([ffffffff/13h]" + children + "/<1;3>/2/*)": {
			"wpkh([ffffffff/13h]" + children + "/1/2/*)", "wpkh([ffffffff/13h]" + children + "/3/2/*)"},
		"pkh(" + three + "/<0;1;2>)": {"pkh(" + three + "/0)", "pkh(" + three + "/1)", "pkh(" + three + "/2)"},
	} {
		d := parse(t, text)
		if int(d.Branches()) != len(into) {
			t.Errorf("%s has %d branches", text, d.Branches())
		}
		for branch, one := range into {
			for index := range uint32(3) {
				want, wantErr := parse(t, one).At(0, index)
				got, err := d.At(uint32(branch), index)
				if string(got.Script) != string(want.Script) || (err == nil) != (wantErr == nil) {
					t.Errorf("%s branch %d script %d is %x, %v; want %x, %v", text, branch, index, got.Script, err, want.Script, wantErr)
				}
			}
		}
	}
}

// Key expressions of BIP 380, in the form wpkh.
func TestKeysOfBIP380(t *testing.T) {
	const key = "0260b2003c386519fc9eadf2b5cf124dd8eea4c4e68d5e154050a9346ea98ce600"
	for _, valid := range []string{
		key,
		"[deadbeef/0h/0h/0h]" + key,
		"[deadbeef/0'/0'/0']" + key,
		"[deadbeef/0'/0h/0']" + key,
		xpub,
		"[deadbeef/0h/1h/2h]" + xpub,
		"[deadbeef/0h/1h/2h]" + xpub + "/3/4/5",
		"[deadbeef/0h/1h/2h]" + xpub + "/3/4/5/*",
	} {
		if d := parse(t, "wpkh("+valid+")"); !strings.Contains(d.String(), strings.ReplaceAll(valid, "'", "h")) {
			t.Errorf("%s is written as %s", valid, d)
		}
	}
	for _, c := range []struct{ key, want string }{
		// Valid there, refused here.
		{fat, "compressed"},
		{xpub + "/3h/4h/5h/*", "hardened"},
		{xpub + "/3h/4h/5h/*h", "hardened"},
		{"[deadbeef/0h/1h/2]" + xpub + "/3h/4h/5h/*h", "hardened"},
		{xpub + "/3/*h", "hardened"},
		// Invalid there.
		{"[deadbeef/0h/0h/0h/*]" + key, "step 4"},
		{"[deadbeef/0h/0h/0h/]" + key, "step 4"},
		{"[deadbef/0h/0h/0h]" + key, "fingerprint"},
		{"[deadbeeef/0h/0h/0h]" + key, "fingerprint"},
		{"[deadbeef/0f/0f/0f]" + key, "step 1"},
		{"[deadbeef/0H/0H/0H]" + key, "step 1"},
		{"[deadbeef/-0/-0/-0]" + key, "step 1"},
		{xpub + "/2147483648", "step 1"},
		{xpub + "/1aa", "step 1"},
		{"[aaaaaaaa][aaaaaaaa]" + xpub + "/2147483647/0", "key is not one"},
		{"aaaaaaaa]" + xpub + "/2147483647/0", "key is not one"},
		{"[gaaaaaaa]" + xpub + "/2147483647/0", "fingerprint"},
		{"[deadbeef]", "key is not one"},
		// And more.
		{"[deadbeef/0h" + key, "no ]"},
		{"", "key is not one"},
		{key + "/0", "no children"},
		{key[2:], "key is not one"},                  // 64 digits are for tr alone
		{"05" + key[2:], "key is not one"},           // neither even nor odd
		{key[:64] + "03", "key is not one"},          // not on the curve
		{xpub[:len(xpub)-1] + "M", "key is not one"}, // checksum
		{xpub + "/", "step 1"},
		{xpub + "/+1", "step 1"},
		{xpub + "/0hh", "step 1"},
		{xpub + "/*/0", "goes on"},
		{xpub + "/*/*", "goes on"},
		{xpub + strings.Repeat("/0", descriptor.MaxSteps+1), "more than 10 steps"},
		{"[deadbeef" + strings.Repeat("/0", descriptor.MaxSteps+1) + "]" + key, "limit of 10"},
		// BIP 389.
		{xpub + "/<0;1>/<2;3>", "twice"},
		{"[deadbeef/<0;1>]" + xpub + "/0", "step 1"},
		{xpub + "/<>/*", "branches are not numbers"},
		{xpub + "/0>/*", "step 1"},
		{xpub + "/<0/*", "no >"},
		{xpub + "/<0;>/*", "branches are not numbers"},
		{xpub + "/<0>/*", "fewer than two"},
		{xpub + "/<0;0>/*", "branch 0 stands twice"},
		{xpub + "/<0;1h>/*", "branches are not numbers"},
		{xpub + "/<0;1;2;3;4;5;6;7;8>/*", "more than 8 branches"},
	} {
		if _, err := descriptor.Parse("wpkh("+c.key+")", mainnet); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", c.key, err, c.want)
		}
	}
}

// A private key is refused by what it is, and no error shows a part of it.
func TestPrivateKeysAreRefusedUnseen(t *testing.T) {
	for _, text := range []string{
		"wpkh(" + xprv + ")",
		"wpkh([deadbeef/0h/1h/2h]" + xprv + "/3/4/5/*)",
		"wpkh(" + xprv + "/3h/4h/5h/*h)",
		"tr(" + xprv + "/0/*)",
		"sh(wpkh(" + root1 + "/10/20/30/40/*))",
		"pkh(" + root2 + "/<2147483647h;0>/0)",
		"wpkh(" + root2 + "/2147483648)",
		"pkh(" + wif + ")", "wpkh(" + wif + ")", "tr(" + wif + ")", "sh(wpkh(" + wif + "))",
		"pkh(" + fatWIF + ")", "tr(" + fatWIF + ")", "wpkh(" + fatWIF + ")",
		"wpkh(" + wif + "/0)", "wpkh(" + wif + "/*)",
		"wpkh(cULrpoZGXiuC19Uhvykx7NugygA3k86b3hmdCeyvHYQZSxojGyXJ)",                                                            // of a test network, from BIP 49
		"wpkh(xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5kejMRNNU3TGtRBeJgk33yuGBxrMPHL)", // a letter wrong
	} {
		if _, err := descriptor.Parse(text, mainnet); !errors.Is(err, descriptor.ErrPrivate) {
			t.Errorf("%.20s…: %v; want ErrPrivate", text, err)
		}
	}
	// Wherever else it may stand.
	for _, text := range []string{
		xprv, wif, "(" + xprv + ")", xprv + "(" + xprv + ")", "wsh(pk(" + wif + "))", "pkh(pk(" + wif + "))",
		"wpkh([" + wif + "]" + xpub + ")", "wpkh([deadbeef/" + wif + "]" + xpub + ")",
		"wpkh(" + xpub + "/" + wif + ")", "wpkh(" + xpub + "/<0;" + wif + ">)", "wpkh(" + xpub + ")#" + wif,
		"wpkh(L" + wif + ")", "wpkh(" + wif[1:] + ")", "wpkh(" + wif + "\x00)", "tr(" + single + "," + wif + ")",
	} {
		_, err := descriptor.Parse(text, mainnet)
		if err == nil {
			t.Errorf("%s is taken", text)
			continue
		}
		for i := range len(wif) - 4 {
			if strings.Contains(err.Error(), wif[i:i+5]) || strings.Contains(err.Error(), xprv[i+4:i+9]) {
				t.Errorf("error shows a private key: %v", err)
				break
			}
		}
	}
}

// Forms of BIP 381 to 390 that are no others than four are refused with a list
// of those.
func TestOtherFormsAreRefusedByName(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"pk(" + single + ")", "pk(…)"},
		{"pk(pk(" + single + "))", "pk(…)"},
		{"pkh(pk(" + single + "))", "where its key should be"},
		{"sh(" + single + ")", "sh(…)"},
		{"sh(sh(pkh(" + single + ")))", "sh(…)"},
		{"sh(pk(" + single + "))", "sh(pk(…)"},
		{"sh(pkh(" + single + "))", "sh(pkh(…)"},
		{"wsh(pkh(" + single + "))", "wsh(…)"},
		{"wsh(pk(" + single + "))", "wsh(…)"},
		{"sh(wsh(pkh(" + single + ")))", "sh(wsh(…)"},
		{"wsh(wpkh(" + single + "))", "wsh(…)"},
		{"wsh(" + single + ")", "wsh(…)"},
		{"wpkh(wsh(pkh(" + single + ")))", "where its key should be"},
		{"multi(2," + xpub + "/<1;2>/*," + xpub + "/<3;4>/0/*)", "multi(…)"},
		{"sh(multi(2," + single + "," + single + "))", "sh(multi(…)"},
		{"sortedmulti(1," + single + ")", "sortedmulti(…)"},
		{"combo(" + single + ")", "combo(…)"},
		{"addr(bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4)", "addr(…)"},
		{"raw(deadbeef)#89f8spxm", "raw(…)"},
		{"rawtr(" + single[2:] + ")", "rawtr(…)"},
		{"tr(" + single[2:] + ",pk(669b8afcec803a0d323e9a17f3ea8e68e8abe5a278020a929adbec52421adbd0))", "tr(KEY,TREE)"},
		{"tr(" + single[2:] + ", pkh(" + single + "))", "tr(KEY,TREE)"},
		{"sh(tr(" + single[2:] + "))", "sh(…)"},
		{"wsh(tr(" + single[2:] + "))", "wsh(…)"},
		{"tr(musig(" + single + "," + single + "))", "tr(KEY,TREE)"},
		{"wpkh(" + single, "does not end"},
		{"sh(wpkh(" + single + ")", "does not end"},
		{"wpkh(" + single + "))", "where its key should be"},
		{" wpkh(" + single + ")", "unknown form"},
		{"", "unknown form"},
	} {
		_, err := descriptor.Parse(c.text, mainnet)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", c.text, err, c.want)
		}
		if err != nil && !strings.Contains(c.want, "end") && !strings.Contains(err.Error(), "sh(wpkh(KEY))") {
			t.Errorf("%s: %v does not say what is supported", c.text, err)
		}
	}
	for _, text := range []string{"tr(" + fat + ")", "wpkh(" + fat + ")", "sh(wpkh(" + fat + "))", "pkh(" + fat + ")"} {
		if _, err := descriptor.Parse(text, mainnet); err == nil || !strings.Contains(err.Error(), "give the compressed one") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// BIP 380, "Test Vectors".
func TestChecksumsOfBIP380(t *testing.T) {
	if got := descriptor.Checksum("raw(deadbeef)"); got != "89f8spxm" {
		t.Errorf("checksum of raw(deadbeef) is %s", got)
	}
	for text, valid := range map[string]bool{
		"raw(deadbeef)#89f8spxm":  true,
		"raw(deadbeef)":           true,
		"raw(deadbeef)#":          false,
		"raw(deadbeef)#89f8spxmx": false,
		"raw(deadbeef)#89f8spx":   false,
		"raw(deedbeef)#89f8spxm":  false,
		"raw(deedbeef)##9f8spxm":  false,
		"raw(Ü)#00000000":         false,
	} {
		body, err := descriptor.Checked(text)
		if (err == nil) != valid || valid && body != "raw(deadbeef)" {
			t.Errorf("%s: %q, %v", text, body, err)
		}
	}
}

func TestEverySlipOfOneCharacterIsSeen(t *testing.T) {
	text := parse(t, "wpkh([deadbeef/84h/0h/0h]"+xpub+"/<0;1>/*)").String()
	for i := range len(text) {
		for _, c := range []byte("0a/h'*x#") {
			if text[i] == c {
				continue
			}
			if d, err := descriptor.Parse(text[:i]+string(c)+text[i+1:], mainnet); err == nil {
				t.Fatalf("%c at %d goes unseen: %s", c, i, d)
			}
		}
	}
}

func TestAnotherNetworksKeyIsRefused(t *testing.T) {
	_, err := descriptor.Parse("wpkh("+xpub+"/0/*)", &chaincfg.TestNet3Params)
	if err == nil || !strings.Contains(err.Error(), "testnet3") {
		t.Errorf("an xpub on testnet: %v", err)
	}
	// From BIP 49's vectors.
	const upub = "upub5EFU65HtV5TeiSHmZZm7FUffBGy8UKeqp7vw43jYbvZPpoVsgU93oac7Wk3u6moKegAEWtGNF8DehrnHtv21XXEMYRUocHqguyjknFHYfgY"
	if _, err = descriptor.Parse("sh(wpkh("+upub+"/0/*))", &chaincfg.TestNet3Params); err == nil || !strings.Contains(err.Error(), "begins with upub") {
		t.Errorf("a upub: %v", err)
	}
}

// BIP 32, test vector 5: none of these is a key. The first is one by its
// version and private by what is in it.
func TestDamagedExtendedKeysAreRefused(t *testing.T) {
	for _, key := range []string{
		"xpub661MyMwAqRbcEYS8w7XLSVeEsBXy79zSzH1J8vCdxAZningWLdN3zgtU6LBpB85b3D2yc8sfvZU521AAwdZafEz7mnzBBsz4wKY5fTtTQBm",
		"xprv9s21ZrQH143K24Mfq5zL5MhWK9hUhhGbd45hLXo2Pq2oqzMMo63oStZzFGTQQD3dC4H2D5GBj7vWvSQaaBv5cxi9gafk7NF3pnBju6dwKvH",
		"xpub661MyMwAqRbcEYS8w7XLSVeEsBXy79zSzH1J8vCdxAZningWLdN3zgtU6Txnt3siSujt9RCVYsx4qHZGc62TG4McvMGcAUjeuwZdduYEvFn",
		"xprv9s21ZrQH143K24Mfq5zL5MhWK9hUhhGbd45hLXo2Pq2oqzMMo63oStZzFGpWnsj83BHtEy5Zt8CcDr1UiRXuWCmTQLxEK9vbz5gPstX92JQ",
		"xpub661MyMwAqRbcEYS8w7XLSVeEsBXy79zSzH1J8vCdxAZningWLdN3zgtU6N8ZMMXctdiCjxTNq964yKkwrkBJJwpzZS4HS2fxvyYUA4q2Xe4",
		"xprv9s21ZrQH143K24Mfq5zL5MhWK9hUhhGbd45hLXo2Pq2oqzMMo63oStZzFAzHGBP2UuGCqWLTAPLcMtD9y5gkZ6Eq3Rjuahrv17fEQ3Qen6J",
		"xprv9s2SPatNQ9Vc6GTbVMFPFo7jsaZySyzk7L8n2uqKXJen3KUmvQNTuLh3fhZMBoG3G4ZW1N2kZuHEPY53qmbZzCHshoQnNf4GvELZfqTUrcv",
		"xpub661no6RGEX3uJkY4bNnPcw4URcQTrSibUZ4NqJEw5eBkv7ovTwgiT91XX27VbEXGENhYRCf7hyEbWrR3FewATdCEebj6znwMfQkhRYHRLpJ",
		"xprv9s21ZrQH4r4TsiLvyLXqM9P7k1K3EYhA1kkD6xuquB5i39AU8KF42acDyL3qsDbU9NmZn6MsGSUYZEsuoePmjzsB3eFKSUEh3Gu1N3cqVUN",
		"xpub661MyMwAuDcm6CRQ5N4qiHKrJ39Xe1R1NyfouMKTTWcguwVcfrZJaNvhpebzGerh7gucBvzEQWRugZDuDXjNDRmXzSZe4c7mnTK97pTvGS8",
		"DMwo58pR1QLEFihHiXPVykYB6fJmsTeHvyTp7hRThAtCX8CvYzgPcn8XnmdfHGMQzT7ayAmfo4z3gY5KfbrZWZ6St24UVf2Qgo6oujFktLHdHY4",
		"DMwo58pR1QLEFihHiXPVykYB6fJmsTeHvyTp7hRThAtCX8CvYzgPcn8XnmdfHPmHJiEDXkTiJTVV9rHEBUem2mwVbbNfvT2MTcAqj3nesx8uBf9",
		"xprv9s21ZrQH143K24Mfq5zL5MhWK9hUhhGbd45hLXo2Pq2oqzMMo63oStZzF93Y5wvzdUayhgkkFoicQZcP3y52uPPxFnfoLZB21Teqt1VvEHx",
		"xprv9s21ZrQH143K24Mfq5zL5MhWK9hUhhGbd45hLXo2Pq2oqzMMo63oStZzFAzHGBP2UuGCqWLTAPLcMtD5SDKr24z3aiUvKr9bJpdrcLg1y3G",
		"xpub661MyMwAqRbcEYS8w7XLSVeEsBXy79zSzH1J8vCdxAZningWLdN3zgtU6Q5JXayek4PRsn35jii4veMimro1xefsM58PgBMrvdYre8QyULY",
		"xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5kejMRNNU3TGtRBeJgk33yuGBxrMPHL",
	} {
		if _, err := descriptor.Parse("wpkh("+key+")", mainnet); err == nil {
			t.Errorf("%s is taken", key)
		}
	}
}

func TestScriptsAreFoundAgainByTheirPaths(t *testing.T) {
	for _, text := range []string{
		"wpkh([deadbeef/84h/0h/0h]" + xpub + "/<0;1>/*)",
		"tr(" + xpub + "/7/<3;5;9>/2/*)",
		"pkh(" + xpub + "/<0;1>)",
		"sh(wpkh([00000001]" + xpub + "/*))",
		"wpkh(" + single + ")",
	} {
		d := parse(t, text)
		for branch := range d.Branches() {
			for _, index := range []uint32{0, 1, 1<<31 - 1} {
				s, err := d.At(branch, index)
				if !d.Ranged() && index > 0 {
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if b, i, ok := d.Locate(s.Fingerprint, s.Path); !ok || b != branch || i != index {
					t.Errorf("%s %d/%d is found at %d/%d, %v", text, branch, index, b, i, ok)
				}
				other := s.Fingerprint
				other[0]++
				longer := append(append([]uint32(nil), s.Path...), 0)
				_, _, a := d.Locate(other, s.Path)
				_, _, b := d.Locate(s.Fingerprint, longer)
				if a || b {
					t.Errorf("%s: found with another fingerprint %v, with a longer path %v", text, a, b)
				}
			}
		}
	}
	d := parse(t, "wpkh([deadbeef/84h]"+xpub+"/<0;1>/*)")
	for _, path := range [][]uint32{nil, {84 | 1<<31, 2, 0}, {84, 0, 0}, {84 | 1<<31, 0, 1 << 31}, {84 | 1<<31, 0}} {
		if _, _, ok := d.Locate([4]byte{0xde, 0xad, 0xbe, 0xef}, path); ok {
			t.Errorf("%v is found", path)
		}
	}
}

func TestIndexesHaveLimits(t *testing.T) {
	d := parse(t, "wpkh("+xpub+"/<0;1>/*)")
	for _, at := range [][2]uint32{{2, 0}, {1 << 31, 0}, {0, 1 << 31}, {1, 1<<32 - 1}} {
		if s, err := d.At(at[0], at[1]); err == nil || s.Script != nil {
			t.Errorf("branch %d has script %d", at[0], at[1])
		}
	}
	var zero descriptor.Descriptor
	if _, err := zero.At(0, 0); err == nil || !zero.IsZero() || zero.String() != "" || zero.Branches() != 0 || zero.Ranged() || zero.Kind().String() != "none" {
		t.Error("the zero Descriptor has scripts")
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"wpkh([deadbeef/84h/0h/0h]" + xpub + "/<0;1>/*)", "sh(wpkh(" + xpub + "/10/20/*))", "pkh(" + single + ")",
		"tr(" + single[2:] + ")", "raw(deadbeef)#89f8spxm", "tr([01234567/86']" + xpub + "/7/<3;5;9>/2/*)", "wpkh(" + wif + ")",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := descriptor.Parse(text, mainnet)
		if err != nil {
			if !d.IsZero() {
				t.Fatal("an error with a descriptor")
			}
			return
		}
		again, err := descriptor.Parse(d.String(), mainnet)
		if err != nil || again.String() != d.String() {
			t.Fatalf("%s comes back as %s, %v", d, again, err)
		}
		for branch := range d.Branches() {
			s, err := d.At(branch, 0)
			if err != nil {
				t.Fatal(err)
			}
			if other, err := again.At(branch, 0); err != nil || string(other.Script) != string(s.Script) {
				t.Fatalf("%s has other scripts the second time, %v", d, err)
			}
			if b, i, ok := d.Locate(s.Fingerprint, s.Path); !ok || b != branch || i != 0 {
				t.Fatalf("%s branch %d is found at %d/%d, %v", d, branch, b, i, ok)
			}
			address, err := descriptor.Address(s.Script, mainnet)
			if err != nil {
				t.Fatal(err)
			}
			if back, err := descriptor.ParseAddress(address, mainnet); err != nil || string(back) != string(s.Script) {
				t.Fatalf("%s gives %x, %v; want %x", address, back, err, s.Script)
			}
		}
	})
}
