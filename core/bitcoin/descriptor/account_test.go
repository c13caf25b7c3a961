package descriptor_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/address/v2/base58"
	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/btcutil/v2/hdkeychain"
	"github.com/btcsuite/btcd/chaincfg/v2"

	"coinop.dev/core/bitcoin/descriptor"
	"coinop.dev/core/bitcoin/mnemonic"
	"coinop.dev/core/keys"
)

const about = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about"

func account(t testing.TB, purpose descriptor.Purpose, coin uint32, p *chaincfg.Params) descriptor.Account {
	t.Helper()
	seed, err := mnemonic.ToSeed(about, "")
	if err != nil {
		t.Fatal(err)
	}
	a, err := descriptor.NewAccount(seed, purpose, coin, 0, p)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func at(t testing.TB, a descriptor.Account, branch, index uint32, p *chaincfg.Params) (descriptor.Script, keys.Secret, string) {
	t.Helper()
	s, err := a.Descriptor().At(branch, index)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := a.Secret(branch, index)
	if err != nil {
		t.Fatal(err)
	}
	if s.Key != secret.Public() {
		t.Errorf("%d/%d: the descriptor's key is %s, the account's %s", branch, index, s.Key, secret.Public())
	}
	text, err := descriptor.Address(s.Script, p)
	if err != nil {
		t.Fatal(err)
	}
	back, err := descriptor.ParseAddress(text, p)
	if err != nil || !bytes.Equal(back, s.Script) {
		t.Errorf("%s comes back as %x, %v", text, back, err)
	}
	return s, secret, text
}

// wifKey reads a compressed key in the wallet import format.
func wifKey(t *testing.T, text string) []byte {
	t.Helper()
	b, _, err := base58.CheckDecode(text)
	if err != nil || len(b) != 33 {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	return b[:32]
}

// BIP 84, "Test vectors".
func TestVectorsOfBIP84(t *testing.T) {
	a := account(t, descriptor.BIP84, 0, mainnet)
	zprv, err := hdkeychain.NewKeyFromString("zprvAdG4iTXWBoARxkkzNpNh8r6Qag3irQB8PzEMkAFeTRXxHpbF9z4QgEvBRmfvqWvGp42t42nvgGpNgYSJA9iefm1yYNZKEm7z6qUWCroSQnE")
	if err != nil {
		t.Fatal(err)
	}
	xprv, err := zprv.CloneWithVersion(mainnet.HDPrivateKeyID[:])
	if err != nil {
		t.Fatal(err)
	}
	if got, want := a.Descriptor().String(), "wpkh([73c5da0a/84h/0h/0h]"+public(t, xprv.String())+"/<0;1>/*)#"; !strings.HasPrefix(got, want) {
		t.Errorf("descriptor is %s; want %s", got, want)
	}
	for _, v := range []struct {
		branch, index        uint32
		wif, pubkey, address string
	}{
		{0, 0, "KyZpNDKnfs94vbrwhJneDi77V6jF64PWPF8x5cdJb8ifgg2DUc9d", "0330d54fd0dd420a6e5f8d3624f5f3482cae350f79d5f0753bf5beef9c2d91af3c", "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu"},
		{0, 1, "Kxpf5b8p3qX56DKEe5NqWbNUP9MnqoRFzZwHRtsFqhzuvUJsYZCy", "03e775fd51f0dfb8cd865d9ff1cca2a158cf651fe997fdc9fee9c1d3b5e995ea77", "bc1qnjg0jd8228aq7egyzacy8cys3knf9xvrerkf9g"},
		{1, 0, "KxuoxufJL5csa1Wieb2kp29VNdn92Us8CoaUG3aGtPtcF3AzeXvF", "03025324888e429ab8e3dbaf1f7802648b9cd01e9b418485c5fa4c1b9b5700e1a6", "bc1q8c6fshw2dlwun7ekn9qwf37cu2rn755upcp6el"},
	} {
		s, secret, address := at(t, a, v.branch, v.index, mainnet)
		if s.Key.String() != v.pubkey || address != v.address || !bytes.Equal(secret.Reveal(), wifKey(t, v.wif)) {
			t.Errorf("%d/%d: %s %s", v.branch, v.index, s.Key, address)
		}
		path := fmt.Sprint([]uint32{84 | 1<<31, 1 << 31, 1 << 31, v.branch, v.index})
		if s.Kind != descriptor.WPKH || fmt.Sprintf("%x", s.Fingerprint) != "73c5da0a" || fmt.Sprint(s.Path) != path {
			t.Errorf("%d/%d is a %s of %x at %v", v.branch, v.index, s.Kind, s.Fingerprint, s.Path)
		}
	}
}

// BIP 86, "Test vectors".
func TestVectorsOfBIP86(t *testing.T) {
	a := account(t, descriptor.BIP86, 0, mainnet)
	const xpub = "xpub6BgBgsespWvERF3LHQu6CnqdvfEvtMcQjYrcRzx53QJjSxarj2afYWcLteoGVky7D3UKDP9QyrLprQ3VCECoY49yfdDEHGCtMMj92pReUsQ"
	if got := a.Descriptor().String(); !strings.HasPrefix(got, "tr([73c5da0a/86h/0h/0h]"+xpub+"/<0;1>/*)#") {
		t.Errorf("descriptor is %s", got)
	}
	for _, v := range []struct {
		branch, index             uint32
		internal, output, address string
	}{
		{0, 0, "cc8a4bc64d897bddc5fbc2f670f7a8ba0b386779106cf1223c6fc5d7cd6fc115", "a60869f0dbcf1dc659c9cecbaf8050135ea9e8cdc487053f1dc6880949dc684c", "bc1p5cyxnuxmeuwuvkwfem96lqzszd02n6xdcjrs20cac6yqjjwudpxqkedrcr"},
		{0, 1, "83dfe85a3151d2517290da461fe2815591ef69f2b18a2ce63f01697a8b313145", "a82f29944d65b86ae6b5e5cc75e294ead6c59391a1edc5e016e3498c67fc7bbb", "bc1p4qhjn9zdvkux4e44uhx8tc55attvtyu358kutcqkudyccelu0was9fqzwh"},
		{1, 0, "399f1b2f4393f29a18c937859c5dd8a77350103157eb880f02e8c08214277cef", "882d74e5d0572d5a816cef0041a96b6c1de832f6f9676d9605c44d5e9a97d3dc", "bc1p3qkhfews2uk44qtvauqyr2ttdsw7svhkl9nkm9s9c3x4ax5h60wqwruhk7"},
	} {
		s, _, address := at(t, a, v.branch, v.index, mainnet)
		if hex.EncodeToString(s.Key[1:]) != v.internal || hex.EncodeToString(s.Script) != "5120"+v.output || address != v.address {
			t.Errorf("%d/%d: %s %x %s", v.branch, v.index, s.Key, s.Script, address)
		}
		secret, err := a.SigningKey(v.branch, v.index)
		if err != nil || hex.EncodeToString(xonly(secret)) != v.output {
			t.Errorf("%d/%d: the signing key's public is not the output key, %v", v.branch, v.index, err)
		}
	}
}

func xonly(s keys.Secret) []byte { p := s.Public(); return p[1:] }

// BIP 44 has no vectors for one phrase; these are what Electrum 4.3.4 derives.
func TestBIP44AsElectrumHasIt(t *testing.T) {
	a := account(t, descriptor.BIP44, 0, mainnet)
	for _, v := range []struct {
		branch, index uint32
		address       string
	}{{0, 0, "1LqBGSKuX5yYUonjxT5qGfpUsXKYYWeabA"}, {1, 5, "12qXU1zQ8pQuRS6p1k9Wc8sSDyPhPtsZe2"}} {
		if _, _, address := at(t, a, v.branch, v.index, mainnet); address != v.address {
			t.Errorf("%d/%d is %s; want %s", v.branch, v.index, address, v.address)
		}
	}
}

// BIP 49, "Test vectors", on the test network.
func TestVectorsOfBIP49(t *testing.T) {
	testnet := &chaincfg.TestNet3Params
	a := account(t, descriptor.BIP49, 1, testnet)
	upub, err := hdkeychain.NewKeyFromString("upub5EFU65HtV5TeiSHmZZm7FUffBGy8UKeqp7vw43jYbvZPpoVsgU93oac7Wk3u6moKegAEWtGNF8DehrnHtv21XXEMYRUocHqguyjknFHYfgY")
	if err != nil {
		t.Fatal(err)
	}
	tpub, err := upub.CloneWithVersion(testnet.HDPublicKeyID[:])
	if err != nil {
		t.Fatal(err)
	}
	if got := a.Descriptor().String(); !strings.HasPrefix(got, "sh(wpkh([73c5da0a/49h/1h/0h]"+tpub.String()+"/<0;1>/*))#") {
		t.Errorf("descriptor is %s", got)
	}
	s, secret, address := at(t, a, 0, 0, testnet)
	for _, c := range []struct{ got, want string }{
		{hex.EncodeToString(secret.Reveal()), "c9bdb49cfbaedca21c4b1f3a7803c34636b1d7dc55a717132443fc3f4c5867e8"},
		{s.Key.String(), "03a1af804ac108a8a51782198c2d034b28bf90c8803f5a53f76276fa69a4eae77f"},
		{hex.EncodeToString(s.Redeem), "001438971f73930f6c141d977ac4fd4a727c854935b3"},
		{hex.EncodeToString(s.Script), "a914336caa13e08b96080a32b5d818d59b4ab3b3674287"},
		{address, "2Mww8dCYPUpKHofjgcXcBCEGmniw9CoaiD2"},
	} {
		if c.got != c.want {
			t.Errorf("%s; want %s", c.got, c.want)
		}
	}
}

// BIP 32, test vectors 1 to 4: an account is a subtree, so the library that
// grows it is checked too, and every public step through a Descriptor.
func TestVectorsOfBIP32(t *testing.T) {
	const h = descriptor.Hardened
	for _, v := range []struct {
		seed string
		path []uint32
		xprv []string // of m and after each step
		xpub []string
	}{
		{"000102030405060708090a0b0c0d0e0f", []uint32{h, 1, 2 | h, 2, 1000000000}, []string{
			"xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6LnF5kejMRNNU3TGtRBeJgk33yuGBxrMPHi",
			"xprv9uHRZZhk6KAJC1avXpDAp4MDc3sQKNxDiPvvkX8Br5ngLNv1TxvUxt4cV1rGL5hj6KCesnDYUhd7oWgT11eZG7XnxHrnYeSvkzY7d2bhkJ7",
			"xprv9wTYmMFdV23N2TdNG573QoEsfRrWKQgWeibmLntzniatZvR9BmLnvSxqu53Kw1UmYPxLgboyZQaXwTCg8MSY3H2EU4pWcQDnRnrVA1xe8fs",
			"xprv9z4pot5VBttmtdRTWfWQmoH1taj2axGVzFqSb8C9xaxKymcFzXBDptWmT7FwuEzG3ryjH4ktypQSAewRiNMjANTtpgP4mLTj34bhnZX7UiM",
			"xprvA2JDeKCSNNZky6uBCviVfJSKyQ1mDYahRjijr5idH2WwLsEd4Hsb2Tyh8RfQMuPh7f7RtyzTtdrbdqqsunu5Mm3wDvUAKRHSC34sJ7in334",
			"xprvA41z7zogVVwxVSgdKUHDy1SKmdb533PjDz7J6N6mV6uS3ze1ai8FHa8kmHScGpWmj4WggLyQjgPie1rFSruoUihUZREPSL39UNdE3BBDu76",
		}, []string{
			"xpub661MyMwAqRbcFtXgS5sYJABqqG9YLmC4Q1Rdap9gSE8NqtwybGhePY2gZ29ESFjqJoCu1Rupje8YtGqsefD265TMg7usUDFdp6W1EGMcet8",
			"xpub68Gmy5EdvgibQVfPdqkBBCHxA5htiqg55crXYuXoQRKfDBFA1WEjWgP6LHhwBZeNK1VTsfTFUHCdrfp1bgwQ9xv5ski8PX9rL2dZXvgGDnw",
			"xpub6ASuArnXKPbfEwhqN6e3mwBcDTgzisQN1wXN9BJcM47sSikHjJf3UFHKkNAWbWMiGj7Wf5uMash7SyYq527Hqck2AxYysAA7xmALppuCkwQ",
			"xpub6D4BDPcP2GT577Vvch3R8wDkScZWzQzMMUm3PWbmWvVJrZwQY4VUNgqFJPMM3No2dFDFGTsxxpG5uJh7n7epu4trkrX7x7DogT5Uv6fcLW5",
			"xpub6FHa3pjLCk84BayeJxFW2SP4XRrFd1JYnxeLeU8EqN3vDfZmbqBqaGJAyiLjTAwm6ZLRQUMv1ZACTj37sR62cfN7fe5JnJ7dh8zL4fiyLHV",
			"xpub6H1LXWLaKsWFhvm6RVpEL9P4KfRZSW7abD2ttkWP3SSQvnyA8FSVqNTEcYFgJS2UaFcxupHiYkro49S8yGasTvXEYBVPamhGW6cFJodrTHy",
		}},
		{"fffcf9f6f3f0edeae7e4e1dedbd8d5d2cfccc9c6c3c0bdbab7b4b1aeaba8a5a29f9c999693908d8a8784817e7b7875726f6c696663605d5a5754514e4b484542",
			[]uint32{0, 2147483647 | h, 1, 2147483646 | h, 2}, []string{
				"xprv9s21ZrQH143K31xYSDQpPDxsXRTUcvj2iNHm5NUtrGiGG5e2DtALGdso3pGz6ssrdK4PFmM8NSpSBHNqPqm55Qn3LqFtT2emdEXVYsCzC2U",
				"xprv9vHkqa6EV4sPZHYqZznhT2NPtPCjKuDKGY38FBWLvgaDx45zo9WQRUT3dKYnjwih2yJD9mkrocEZXo1ex8G81dwSM1fwqWpWkeS3v86pgKt",
				"xprv9wSp6B7kry3Vj9m1zSnLvN3xH8RdsPP1Mh7fAaR7aRLcQMKTR2vidYEeEg2mUCTAwCd6vnxVrcjfy2kRgVsFawNzmjuHc2YmYRmagcEPdU9",
				"xprv9zFnWC6h2cLgpmSA46vutJzBcfJ8yaJGg8cX1e5StJh45BBciYTRXSd25UEPVuesF9yog62tGAQtHjXajPPdbRCHuWS6T8XA2ECKADdw4Ef",
				"xprvA1RpRA33e1JQ7ifknakTFpgNXPmW2YvmhqLQYMmrj4xJXXWYpDPS3xz7iAxn8L39njGVyuoseXzU6rcxFLJ8HFsTjSyQbLYnMpCqE2VbFWc",
				"xprvA2nrNbFZABcdryreWet9Ea4LvTJcGsqrMzxHx98MMrotbir7yrKCEXw7nadnHM8Dq38EGfSh6dqA9QWTyefMLEcBYJUuekgW4BYPJcr9E7j",
			}, []string{
				"xpub661MyMwAqRbcFW31YEwpkMuc5THy2PSt5bDMsktWQcFF8syAmRUapSCGu8ED9W6oDMSgv6Zz8idoc4a6mr8BDzTJY47LJhkJ8UB7WEGuduB",
				"xpub69H7F5d8KSRgmmdJg2KhpAK8SR3DjMwAdkxj3ZuxV27CprR9LgpeyGmXUbC6wb7ERfvrnKZjXoUmmDznezpbZb7ap6r1D3tgFxHmwMkQTPH",
				"xpub6ASAVgeehLbnwdqV6UKMHVzgqAG8Gr6riv3Fxxpj8ksbH9ebxaEyBLZ85ySDhKiLDBrQSARLq1uNRts8RuJiHjaDMBU4Zn9h8LZNnBC5y4a",
				"xpub6DF8uhdarytz3FWdA8TvFSvvAh8dP3283MY7p2V4SeE2wyWmG5mg5EwVvmdMVCQcoNJxGoWaU9DCWh89LojfZ537wTfunKau47EL2dhHKon",
				"xpub6ERApfZwUNrhLCkDtcHTcxd75RbzS1ed54G1LkBUHQVHQKqhMkhgbmJbZRkrgZw4koxb5JaHWkY4ALHY2grBGRjaDMzQLcgJvLJuZZvRcEL",
				"xpub6FnCn6nSzZAw5Tw7cgR9bi15UV96gLZhjDstkXXxvCLsUXBGXPdSnLFbdpq8p9HmGsApME5hQTZ3emM2rnY5agb9rXpVGyy3bdW6EEgAtqt",
			}},
		{"4b381541583be4423346c643850da4b320e46a87ae3d2a4e6da11eba819cd4acba45d239319ac14f863b8d5ab5a0d0c64d2e8a1e7d1457df2e5a3c51c73235be",
			[]uint32{h}, []string{
				"xprv9s21ZrQH143K25QhxbucbDDuQ4naNntJRi4KUfWT7xo4EKsHt2QJDu7KXp1A3u7Bi1j8ph3EGsZ9Xvz9dGuVrtHHs7pXeTzjuxBrCmmhgC6",
				"xprv9uPDJpEQgRQfDcW7BkF7eTya6RPxXeJCqCJGHuCJ4GiRVLzkTXBAJMu2qaMWPrS7AANYqdq6vcBcBUdJCVVFceUvJFjaPdGZ2y9WACViL4L",
			}, []string{
				"xpub661MyMwAqRbcEZVB4dScxMAdx6d4nFc9nvyvH3v4gJL378CSRZiYmhRoP7mBy6gSPSCYk6SzXPTf3ND1cZAceL7SfJ1Z3GC8vBgp2epUt13",
				"xpub68NZiKmJWnxxS6aaHmn81bvJeTESw724CRDs6HbuccFQN9Ku14VQrADWgqbhhTHBaohPX4CjNLf9fq9MYo6oDaPPLPxSb7gwQN3ih19Zm4Y",
			}},
		{"3ddd5602285899a946114506157c7997e5444528f3003f6134712147db19b678", []uint32{h, 1 | h}, []string{
			"xprv9s21ZrQH143K48vGoLGRPxgo2JNkJ3J3fqkirQC2zVdk5Dgd5w14S7fRDyHH4dWNHUgkvsvNDCkvAwcSHNAQwhwgNMgZhLtQC63zxwhQmRv",
			"xprv9vB7xEWwNp9kh1wQRfCCQMnZUEG21LpbR9NPCNN1dwhiZkjjeGRnaALmPXCX7SgjFTiCTT6bXes17boXtjq3xLpcDjzEuGLQBM5ohqkao9G",
			"xprv9xJocDuwtYCMNAo3Zw76WENQeAS6WGXQ55RCy7tDJ8oALr4FWkuVoHJeHVAcAqiZLE7Je3vZJHxspZdFHfnBEjHqU5hG1Jaj32dVoS6XLT1",
		}, []string{
			"xpub661MyMwAqRbcGczjuMoRm6dXaLDEhW1u34gKenbeYqAix21mdUKJyuyu5F1rzYGVxyL6tmgBUAEPrEz92mBXjByMRiJdba9wpnN37RLLAXa",
			"xpub69AUMk3qDBi3uW1sXgjCmVjJ2G6WQoYSnNHyzkmdCHEhSZ4tBok37xfFEqHd2AddP56Tqp4o56AePAgCjYdvpW2PU2jbUPFKsav5ut6Ch1m",
			"xpub6BJA1jSqiukeaesWfxe6sNK9CCGaujFFSJLomWHprUL9DePQ4JDkM5d88n49sMGJxrhpjazuXYWdMf17C9T5XnxkopaeS7jGk1GyyVziaMt",
		}},
	} {
		seed, err := hex.DecodeString(v.seed)
		if err != nil {
			t.Fatal(err)
		}
		k, err := hdkeychain.NewMaster(seed, mainnet)
		if err != nil {
			t.Fatal(err)
		}
		for i := range v.xprv {
			if k.String() != v.xprv[i] || public(t, k.String()) != v.xpub[i] {
				t.Errorf("seed %.8s after %v: %s", v.seed, v.path[:i], k)
			}
			if i == len(v.path) {
				break
			}
			if step := v.path[i]; step < h {
				parent, child := parse(t, fmt.Sprintf("wpkh(%s/%d)", v.xpub[i], step)), parse(t, "wpkh("+v.xpub[i+1]+")")
				a, errA := parent.At(0, 0)
				b, errB := child.At(0, 0)
				if errA != nil || errB != nil || a.Key != b.Key {
					t.Errorf("seed %.8s: child %d of %s is %s, %v; want %s, %v", v.seed, step, v.xpub[i], a.Key, errA, b.Key, errB)
				}
			}
			if k, err = k.Derive(v.path[i]); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// BIP 341, wallet-test-vectors.json: the key path spending without a tree. The
// second secret is the first one's negative, so its public key is odd.
func TestTapSecretOfBIP341(t *testing.T) {
	for _, internal := range []string{
		"6b973d88838f27366ed61c9ad6367663045cb456e28335c109e30717ae0c6baa",
		"9468c2777c70d8c99129e36529c9899bb652288fccc56a7ab5ef57752229d597",
	} {
		b, _ := hex.DecodeString(internal)
		s, err := keys.SecretFromBytes(b)
		if err != nil {
			t.Fatal(err)
		}
		tweaked, err := descriptor.TapSecret(s)
		if err != nil || hex.EncodeToString(tweaked.Reveal()) != "2405b971772ad26915c8dcdf10f238753a9b837e5f8e6a86fd7c0cce5b7296d9" {
			t.Errorf("%s is tweaked to %x, %v", internal, tweaked.Reveal(), err)
		}
		d := parse(t, "tr("+s.Public().String()+")")
		script, err := d.At(0, 0)
		if err != nil || hex.EncodeToString(script.Script) != "512053a1f6e454df1aa2776a2814a721372d6258050de330b3c6d10ee8f4e0dda343" {
			t.Errorf("script is %x, %v", script.Script, err)
		}
	}
}

// For every account and any index: the public half and the private half agree,
// and what the signing key signs, the script's key takes.
func TestBothHalvesOfAnAccountAgree(t *testing.T) {
	rng := rand.New(rand.NewPCG(32, 0))
	for range 6 {
		entropy := make([]byte, 32)
		for i := range entropy {
			entropy[i] = byte(rng.Uint32())
		}
		seed, err := mnemonic.SeedFromBytes(entropy)
		if err != nil {
			t.Fatal(err)
		}
		for _, purpose := range []descriptor.Purpose{descriptor.BIP44, descriptor.BIP49, descriptor.BIP84, descriptor.BIP86} {
			p := []*chaincfg.Params{mainnet, &chaincfg.RegressionNetParams, &chaincfg.SigNetParams}[rng.IntN(3)]
			a, err := descriptor.NewAccount(seed, purpose, p.HDCoinType, rng.Uint32()>>1, p)
			if err != nil {
				t.Fatal(err)
			}
			d := a.Descriptor()
			again, err := descriptor.Parse(d.String(), p)
			if err != nil || again.String() != d.String() || !again.Account() || d.Kind() != purpose.Kind() {
				t.Fatalf("%s comes back as %s, %v", d, again, err)
			}
			for range 4 {
				branch, index := rng.Uint32()&1, rng.Uint32()>>1
				s, secret, _ := at(t, a, branch, index, p)
				if other, err := again.At(branch, index); err != nil || !bytes.Equal(other.Script, s.Script) || fmt.Sprint(other) != fmt.Sprint(s) {
					t.Errorf("%s %d/%d differs when parsed again, %v", d, branch, index, err)
				}
				signing, err := a.SigningKey(branch, index)
				if err != nil {
					t.Fatal(err)
				}
				if purpose != descriptor.BIP86 {
					if signing.Public() != secret.Public() {
						t.Errorf("%s is signed with another key", d)
					}
					continue
				}
				digest := keys.Digest("test", s.Script)
				private, _ := btcec.PrivKeyFromBytes(signing.Reveal())
				sig, err := schnorr.Sign(private, digest[:])
				if err != nil {
					t.Fatal(err)
				}
				output, err := schnorr.ParsePubKey(s.Script[2:])
				if err != nil || !sig.Verify(digest[:], output) {
					t.Errorf("%s %d/%d: the output key does not take the signature, %v", d, branch, index, err)
				}
			}
		}
	}
}

func TestNothingPrivatePrints(t *testing.T) {
	a := account(t, descriptor.BIP84, 0, mainnet)
	secret, err := a.Secret(0, 0)
	if err != nil {
		t.Fatal(err)
	}
	type wallet struct {
		account descriptor.Account
		name    string
	}
	// BIP 84's account key, of which a zprv or an xprv would show a part.
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		for _, v := range []any{a, &a, wallet{a, "w"}, &wallet{a, "w"}, []descriptor.Account{a}, map[string]descriptor.Account{"a": a}} {
			text := fmt.Sprintf(verb, v)
			if strings.Contains(text, "prv") || strings.Contains(text, hex.EncodeToString(secret.Reveal()[:4])) || strings.Contains(text, hex.EncodeToString([]byte("xprv"))) {
				t.Errorf("%s of %T prints a key: %.100s", verb, v, text)
			}
		}
	}
	for _, v := range []any{a, wallet{a, "w"}, &a} {
		if b, err := json.Marshal(v); err == nil && string(b) != "{}" {
			t.Errorf("%T marshals: %s", v, b)
		}
	}
	if _, err := json.Marshal(a); err == nil {
		t.Error("an account marshals")
	}
}

func TestImpossibleAccountsAreRefused(t *testing.T) {
	seed, err := mnemonic.ToSeed(about, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		seed          mnemonic.Seed
		purpose       descriptor.Purpose
		coin, account uint32
	}{{seed, 45, 0, 0}, {seed, 0, 0, 0}, {seed, 84, 1 << 31, 0}, {seed, 84, 0, 1 << 31}, {mnemonic.Seed{}, 84, 0, 0}} {
		if a, err := descriptor.NewAccount(c.seed, c.purpose, c.coin, c.account, mainnet); err == nil || !a.IsZero() {
			t.Errorf("purpose %d, coin %d, account %d is taken", c.purpose, c.coin, c.account)
		}
	}
	a := account(t, descriptor.BIP84, 0, mainnet)
	for _, at := range [][2]uint32{{2, 0}, {0, 1 << 31}, {1<<32 - 1, 0}} {
		if _, err := a.Secret(at[0], at[1]); err == nil {
			t.Errorf("there is a key at %d/%d", at[0], at[1])
		}
	}
	var zero descriptor.Account
	if _, err := zero.SigningKey(0, 0); err == nil || !zero.Descriptor().IsZero() {
		t.Error("the zero Account has keys")
	}
}

// One account serves many goroutines: the race detector would tell.
func TestAnAccountIsSharedSafely(t *testing.T) {
	a := account(t, descriptor.BIP86, 0, mainnet)
	want, _, _ := at(t, a, 1, 7, mainnet)
	done := make(chan error)
	for range 8 {
		go func() {
			s, err := a.Descriptor().At(1, 7)
			if err == nil && s.Key != want.Key {
				err = fmt.Errorf("key is %s", s.Key)
			}
			if err == nil {
				_, err = a.SigningKey(1, 7)
			}
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkAt(b *testing.B) {
	for _, purpose := range []descriptor.Purpose{descriptor.BIP84, descriptor.BIP86} {
		d := account(b, purpose, 0, mainnet).Descriptor()
		b.Run(d.Kind().String(), func(b *testing.B) {
			for i := uint32(0); b.Loop(); i++ {
				if _, err := d.At(i&1, i); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
