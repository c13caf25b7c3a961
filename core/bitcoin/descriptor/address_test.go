package descriptor_test

import (
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"

	"coinop.dev/core/bitcoin/descriptor"
)

func network(address string) *chaincfg.Params {
	if strings.HasPrefix(strings.ToLower(address), "tb") {
		return &chaincfg.TestNet3Params
	}
	return mainnet
}

// BIP 350, "Test vectors for v0-v16 native segregated witness addresses".
func TestSegwitAddressesOfBIP350(t *testing.T) {
	for text, script := range map[string]string{
		"BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4":                                 "0014751e76e8199196d454941c45d1b3a323f1433bd6",
		"tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7":             "00201863143c14c5166804bd19203356da136c985678cd4d27a1b8c6329604903262",
		"bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kt5nd6y": "5128751e76e8199196d454941c45d1b3a323f1433bd6751e76e8199196d454941c45d1b3a323f1433bd6",
		"BC1SW50QGDZ25J":                       "6002751e",
		"bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs": "5210751e76e8199196d454941c45d1b3a323",
		"tb1qqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesrxh6hy": "0020000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433",
		"tb1pqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesf3hn0c": "5120000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433",
		"bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0": "512079be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
	} {
		got, err := descriptor.ParseAddress(text, network(text))
		if err != nil || hex.EncodeToString(got) != script {
			t.Errorf("%s gives %x, %v; want %s", text, got, err, script)
			continue
		}
		if back, err := descriptor.Address(got, network(text)); err != nil || back != strings.ToLower(text) {
			t.Errorf("%s comes back as %s, %v", text, back, err)
		}
	}
}

func TestWrongAddressesAreRefused(t *testing.T) {
	for _, text := range []string{
		// BIP 350.
		"tc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq5zuyut",
		"bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd",
		"tb1z0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqglt7rf",
		"BC1S0XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ54WELL",
		"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kemeawh",
		"tb1q0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq24jc47",
		"bc1p38j9r5y49hruaue7wxjce0updqjuyyx0kh56v8s25huc6995vvpql3jow4",
		"BC130XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ7ZWS8R",
		"bc1pw5dgrnzv",
		"bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v8n0nx0muaewav253zgeav",
		"BC1QR508D6QEJXTDG4Y5R3ZARVARYV98GJ9P",
		"tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq47Zagq",
		"bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v07qwwzcrf",
		"tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vpggkg4j",
		"bc1gmk9yu",
		// BIP 173; the first three were right until BIP 350.
		"bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7k7grplx",
		"BC1SW50QA3JX3S",
		"bc1zw508d6qejxtdg4y5r3zarvaryvg6kdaj",
		"tc1qw508d6qejxtdg4y5r3zarvary0c5xw7kg3g4ty",
		"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5",
		"BC13W508D6QEJXTDG4Y5R3ZARVARY0C5XW7KN40WF2",
		"bc1rw5uspcuh",
		"bc10w508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kw5rljs90",
		"tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sL5k7",
		"bc1zw508d6qejxtdg4y5r3zarvaryvqyzf3du",
		"tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3pjxtptv",
		// And more.
		"",
		"175tWpb8K1S7NmH4Zx6rewF9WQrcZv245W",  // BIP 21's example, whose checksum is wrong
		"2Mww8dCYPUpKHofjgcXcBCEGmniw9CoaiD2", // of a test network
		single,                                // no address, though some take it for one
		wif,
		strings.Repeat("1", 91),
	} {
		script, err := descriptor.ParseAddress(text, network(text))
		if err == nil || script != nil {
			t.Errorf("%s gives %x", text, script)
			continue
		}
		if strings.Contains(err.Error(), wif[12:20]) || strings.Contains(err.Error(), "expected") {
			t.Errorf("error shows too much: %v", err)
		}
	}
	if _, err := descriptor.ParseAddress("tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx", mainnet); err == nil || !strings.Contains(err.Error(), "on mainnet one begins with bc1") {
		t.Errorf("a test network's address: %v", err)
	}
}

func TestOldAddresses(t *testing.T) {
	for _, c := range []struct {
		text, script string
		p            *chaincfg.Params
	}{
		{"1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "76a91462e907b15cbf27d5425399ebf6f0fb50ebb88f1888ac", mainnet},               // of the first block's key
		{"2Mww8dCYPUpKHofjgcXcBCEGmniw9CoaiD2", "a914336caa13e08b96080a32b5d818d59b4ab3b3674287", &chaincfg.TestNet3Params}, // BIP 49
	} {
		script, err := descriptor.ParseAddress(c.text, c.p)
		if err != nil || hex.EncodeToString(script) != c.script {
			t.Errorf("%s gives %x, %v", c.text, script, err)
		}
		if back, err := descriptor.Address(script, c.p); err != nil || back != c.text {
			t.Errorf("%s comes back as %s, %v", c.text, back, err)
		}
	}
}

func TestAnyWitnessProgramComesBack(t *testing.T) {
	rng := rand.New(rand.NewPCG(350, 0))
	nets := []*chaincfg.Params{mainnet, &chaincfg.TestNet3Params, &chaincfg.RegressionNetParams, &chaincfg.SimNetParams}
	for range 3000 {
		version, size := rng.IntN(17), 2+rng.IntN(39)
		if version == 0 {
			size = 20 + 12*rng.IntN(2)
		}
		script := []byte{0, byte(size)}
		if version > 0 {
			script[0] = byte(0x50 + version)
		}
		for range size {
			script = append(script, byte(rng.Uint32()))
		}
		p := nets[rng.IntN(len(nets))]
		text, err := descriptor.Address(script, p)
		if err != nil {
			t.Fatal(err)
		}
		back, err := descriptor.ParseAddress(strings.ToUpper(text), p)
		if err != nil || string(back) != string(script) {
			t.Fatalf("%x is %s and comes back as %x, %v", script, text, back, err)
		}
	}
	for _, script := range []string{"", "51", "6a00", "0001ff", "5101ff", "0015" + strings.Repeat("00", 21), "5129" + strings.Repeat("00", 41), "5003aabbcc", "6103aabbcc", "5104aabbcc",
		"76a914" + strings.Repeat("00", 20) + "88", "a914" + strings.Repeat("00", 20), "21" + single + "ac"} {
		b, err := hex.DecodeString(script)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := descriptor.Address(b, mainnet); err == nil {
			t.Errorf("%s has the address %s", script, text)
		}
	}
}
