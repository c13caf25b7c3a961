package commit_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/commit"
	"coinop.dev/core/money"
)

// The vectors are those of BOLT 3, appendices B to F. testdata/bolt3-static.json
// has values of appendix C as of 2022, with a static to_remote; the values of
// bolt3-legacy.json (appendix C before that), bolt3-anchors.json (appendix F, zero-fee
// HTLC transactions) and bolt3-storage.json (appendix D) are taken from lnd
// v0.21.3, lnwallet/test_vectors_*.json and shachain/store_test.go.

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func secretHex(t testing.TB, text string) keys.Secret {
	t.Helper()
	s, err := keys.SecretFromBytes(unhex(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func vectors[T any](t testing.TB, name string) (v []T) {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &v); err != nil || len(v) == 0 {
		t.Fatal(name, err)
	}
	return v
}

type txVector struct {
	Name    string       `json:"name"`
	Local   money.Amount `json:"to_local_msat"`
	Remote  money.Amount `json:"to_remote_msat"`
	FeeRate int64        `json:"local_feerate_per_kw"`
	Dust    int64        `json:"dust_limit_satoshis"`
	HTLCs   bool         `json:"htlcs"`
	Sig     string       `json:"remote_signature"`
	Tx      string       `json:"commit_tx"`
	Second  []struct {
		Sig string `json:"remote_htlc_signature"`
		Tx  string `json:"tx"`
	} `json:"htlc_txs"`
}

// appendixB is the funding transaction of BOLT 3, appendix B.
const appendixB = "0200000001adbb20ea41a8423ea937e76e8151636bf6093b70eaff942930d20576600521fd000000006b48304502210090587b6201e166ad6af0227d3036a9454223d49a1f11839c1a362184340ef0240220577f7cd5cca78719405cbf1de7414ac027f0239ef6e214c90fcaab0454d84b3b012103535b32d5eb0a6ed0982a0479bbadc9868d9836f6ba94dd5a63be16d875069184ffffffff028096980000000000220020c015c4a6be010e21657068fc2e6a9d02b27ebe4d490a25846f7237f104d1a3cd20256d29010000001600143ca33c2e4446f4a305f23c80df8ad1afdcf652f900000000"

// appendixC is the channel of appendices C and F, seen from its local node.
type appendixC struct {
	commit.Channel
	local, remote commit.Secrets
	point         keys.Public
}

func newAppendixC(t testing.TB, typ commit.Type) appendixC {
	one, three, four := secretHex(t, "1111111111111111111111111111111111111111111111111111111111111111"),
		secretHex(t, "3333333333333333333333333333333333333333333333333333333333333333"),
		secretHex(t, "4444444444444444444444444444444444444444444444444444444444444444")
	local := commit.Secrets{
		Funding: secretHex(t, "30ff4956bbdd3222d44cc5e8a1261dab1e07957bdac5ae88fe3261ef321f3749"),
		Payment: one, HTLC: one, Delayed: three, Revocation: one,
	}
	remote := commit.Secrets{
		Funding: secretHex(t, "1552dfba4f6cf29a62a0af13c8d6981d36d0ef8d61ba10fb0fe90da7634d7e13"),
		Payment: four, HTLC: four, Delayed: three,
		Revocation: secretHex(t, "2222222222222222222222222222222222222222222222222222222222222222"),
	}
	funding, err := tx.Parse(unhex(t, appendixB))
	if err != nil {
		t.Fatal(err)
	}
	per := secretHex(t, "1f1e1d1c1b1a191817161514131211100f0e0d0c0b0a09080706050403020100")
	return appendixC{commit.Channel{
		Type: typ, Funding: wire.OutPoint{Hash: funding.TxHash()}, Capacity: 10_000_000, Opener: commit.Local,
		Local:  commit.Party{Basepoints: local.Basepoints(), Dust: 546, Delay: 144},
		Remote: commit.Party{Basepoints: remote.Basepoints(), Dust: 546, Delay: 144},
	}, local, remote, per.Public()}
}

// htlcsOfAppendixC are the HTLCs 0 to 6 of the appendix; the preimage of each is
// its number 32 times, but HTLC 6 has that of 5.
var htlcsOfAppendixC = []struct {
	ours   bool
	msat   money.Amount
	expiry uint32
	fill   byte
}{
	{false, 1_000_000, 500, 0}, {false, 2_000_000, 501, 1}, {true, 2_000_000, 502, 2}, {true, 3_000_000, 503, 3},
	{false, 4_000_000, 504, 4}, {true, 5_000_000, 506, 5}, {true, 5_000_001, 505, 5},
}

func (v *txVector) state() (s commit.State, preimages [][]byte) {
	s = commit.State{Number: 42, FeeRate: v.FeeRate, Local: v.Local, Remote: v.Remote}
	if !v.HTLCs {
		return s, nil
	}
	used := []int{0, 1, 2, 3, 4}
	if v.Local == 6_987_999_999 {
		used = []int{1, 5, 6}
	}
	for _, i := range used {
		h := htlcsOfAppendixC[i]
		preimage := bytes.Repeat([]byte{h.fill}, 32)
		s.HTLCs = append(s.HTLCs, commit.HTLC{Ours: h.ours, Amount: h.msat, Hash: sha256.Sum256(preimage), Expiry: h.expiry})
		preimages = append(preimages, preimage)
	}
	return s, preimages
}

func der(t testing.TB, text string) (sig keys.Signature) {
	t.Helper()
	parsed, err := ecdsa.ParseDERSignature(unhex(t, text))
	if err != nil {
		t.Fatal(err)
	}
	r, s := parsed.R(), parsed.S()
	r.PutBytesUnchecked(sig[:32])
	s.PutBytesUnchecked(sig[32:])
	return sig
}

// checkVector builds, signs and completes everything in v, byte for byte.
func checkVector(t *testing.T, c appendixC, v *txVector, s commit.State, preimages [][]byte) {
	k, err := c.Build(commit.Local, c.point, s)
	if err != nil {
		t.Fatal(err)
	}
	sig, second := k.Sign(c.remote) // what the peer would send us
	if sig != der(t, v.Sig) {
		t.Errorf("remote_signature is %x", sig.DER())
	}
	if got := tx.Bytes(k.Signed(c.local, sig)); hex.EncodeToString(got) != v.Tx {
		t.Errorf("commitment is\n%x, want\n%s", got, v.Tx)
	}
	if len(second) != len(v.Second) {
		t.Fatalf("%d HTLC signatures, want %d", len(second), len(v.Second))
	}
	for i, want := range v.Second {
		if second[i] != der(t, want.Sig) {
			t.Errorf("remote_htlc_signature %d is %x", i, second[i].DER())
		}
		var preimage []byte
		if !k.Outputs[i].Offered {
			preimage = preimages[k.Outputs[i].HTLC]
		}
		if got := tx.Bytes(completed(&c.Channel, k, i, c.local, second[i], preimage)); hex.EncodeToString(got) != want.Tx {
			t.Errorf("HTLC transaction %d is\n%x, want\n%s", i, got, want.Tx)
		}
	}
	if err := k.Verify(sig, second); err != nil {
		t.Error(err)
	}
	if k.Fee < c.Fee(commit.Local, s.FeeRate, len(k.Outputs)) && s.Local.Sats() > c.Fee(commit.Local, s.FeeRate, len(k.Outputs)) {
		t.Errorf("the fee is %d sat", k.Fee)
	}
	if n, ok := c.Number(k.Tx); !ok || n != s.Number {
		t.Errorf("the number in it is %d", n)
	}
}

// completed is a second-stage transaction with both signatures and without an
// added fee.
func completed(c *commit.Channel, k *commit.Commitment, i int, s commit.Secrets, theirs keys.Signature, preimage []byte) *wire.MsgTx {
	t, o := k.HTLCTx(i), &k.Outputs[i]
	mine := commit.DeriveSecret(s.HTLC, k.Point).Sign(tx.Sighash(t, 0, o.Script, o.Value))
	t.TxIn[0].Witness = wire.TxWitness{nil, append(theirs.DER(), byte(c.Type.HTLCSigHash())), tx.WitnessSig(mine), preimage, o.Script}
	return t
}

func TestAppendixB(t *testing.T) {
	c := newAppendixC(t, commit.StaticRemoteKey)
	if got, want := hex.EncodeToString(c.FundingScript()), "5221023da092f6980e58d2c037173180e9a465476026ee50f96695963e8efe436f54eb21030e9f7b623d2ccc7c9bd44d66d5ce21ce504c0acf6385a132cec6d3c39fa711c152ae"; got != want {
		t.Errorf("the funding script is %s, want %s", got, want)
	}
	funding, _ := tx.Parse(unhex(t, appendixB))
	if out := c.FundingOutput(); out.Value != funding.TxOut[0].Value || !bytes.Equal(out.PkScript, funding.TxOut[0].PkScript) {
		t.Errorf("the funding output is %d sat to %x", out.Value, out.PkScript)
	}
	if got := c.Funding.Hash.String(); got != "8984484a580b825b9972d7adb15050b3ab624ccd731946b3eeddb92f4e7ef6be" {
		t.Errorf("the funding transaction is %s", got)
	}
	if got := c.Obscurer(); got != 0x2bb038521914 {
		t.Errorf("numbers are obscured by %x", got)
	}
}

func TestAppendixCStaticRemoteKey(t *testing.T) {
	for _, v := range vectors[txVector](t, "bolt3-static.json") {
		t.Run(v.Name, func(t *testing.T) {
			c := newAppendixC(t, commit.StaticRemoteKey)
			s, preimages := v.state()
			checkVector(t, c, &v, s, preimages)
		})
	}
}

// Before static_remotekey the key of to_remote was derived. Given that key as
// the basepoint, and a number that comes out obscured as it did, the old vectors
// hold byte for byte.
func TestAppendixCLegacy(t *testing.T) {
	for _, v := range vectors[txVector](t, "bolt3-legacy.json") {
		t.Run(v.Name, func(t *testing.T) {
			c := newAppendixC(t, commit.StaticRemoteKey)
			obscured := 42 ^ c.Obscurer()
			c.Remote.Payment = commit.DeriveSecret(c.remote.Payment, c.point).Public()
			s, preimages := v.state()
			s.Number = obscured ^ c.Obscurer()
			checkVector(t, c, &v, s, preimages)
		})
	}
}

func TestAppendixFAnchors(t *testing.T) {
	for _, v := range vectors[txVector](t, "bolt3-anchors.json") {
		t.Run(v.Name, func(t *testing.T) {
			c := newAppendixC(t, commit.Anchors)
			c.Local.Dust = v.Dust
			s, preimages := v.state()
			checkVector(t, c, &v, s, preimages)
		})
	}
}

// Appendix C, "commitment tx with fee greater than funder amount": the
// transaction is that of the highest fee rate that the opener can pay.
func TestAFeeGreaterThanTheFundersAmountTakesAllOfIt(t *testing.T) {
	c := newAppendixC(t, commit.StaticRemoteKey)
	s := commit.State{Number: 42, FeeRate: 9_651_936, Local: 6_988_000_000 + 12_000_000, Remote: 3_000_000_000}
	s.Local -= 12_000_000
	for _, h := range htlcsOfAppendixC[:5] { // all are trimmed at such a rate
		s.HTLCs = append(s.HTLCs, commit.HTLC{Ours: h.ours, Amount: h.msat, Expiry: h.expiry})
	}
	k, err := c.Build(commit.Local, c.point, s)
	if err != nil {
		t.Fatal(err)
	}
	if k.Fee != 7_000_000 || k.ToLocal != -1 || k.ToRemote != 0 || len(k.Tx.TxOut) != 1 {
		t.Errorf("the fee is %d sat and %d outputs are left", k.Fee, len(k.Tx.TxOut))
	}
}

func TestAppendixDGeneration(t *testing.T) {
	for _, v := range []struct {
		name, seed string
		index      uint64
		output     string
	}{
		{"0 final node", "0000000000000000000000000000000000000000000000000000000000000000", 281474976710655, "02a40c85b6f28da08dfdbe0926c53fab2de6d28c10301f8f7c4073d5e42e3148"},
		{"FF final node", "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF", 281474976710655, "7cc854b54e3e0dcdb010d7a3fee464a9687be6e8db3be6854c475621e007a5dc"},
		{"FF alternate bits 1", "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF", 0xaaaaaaaaaaa, "56f4008fb007ca9acf0e15b054d5c9fd12ee06cea347914ddbaed70d1c13a528"},
		{"FF alternate bits 2", "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF", 0x555555555555, "9015daaeb06dba4ccc05b91b2f73bd54405f2be9f217fbacd3c5ac2e62327d31"},
		{"01 last nontrivial node", "0101010101010101010101010101010101010101010101010101010101010101", 1, "915c75942a26bb3a433a8ce2cb0427c29ec6c1775cfc78328b57f6ba7bfeaa9c"},
	} {
		if got := commit.Descend([32]byte(unhex(t, v.seed)), 48, v.index); hex.EncodeToString(got[:]) != v.output {
			t.Errorf("%s: %x, want %s", v.name, got, v.output)
		}
	}
	s := commit.Secrets{Seed: secretHex(t, "0101010101010101010101010101010101010101010101010101010101010101")}
	if got := s.PerCommitment(281474976710655 - 1); hex.EncodeToString(got[:]) != "915c75942a26bb3a433a8ce2cb0427c29ec6c1775cfc78328b57f6ba7bfeaa9c" {
		t.Errorf("the secret of the last but one commitment is %x", got)
	}
}

func TestAppendixDStorage(t *testing.T) {
	type vector struct {
		Name    string
		Inserts []struct {
			I      uint64
			Secret string
			OK     bool
		}
	}
	for _, v := range vectors[vector](t, "bolt3-storage.json") {
		var r commit.Revealed
		for _, in := range v.Inserts {
			before := r.Append(nil)
			err := r.Add(281474976710655-in.I, [32]byte(unhex(t, in.Secret)))
			if (err == nil) != in.OK {
				t.Errorf("%s: %d: %v", v.Name, in.I, err)
			}
			if err != nil && !bytes.Equal(before, r.Append(nil)) {
				t.Errorf("%s: %d was refused and changed something", v.Name, in.I)
			}
		}
	}
}

func TestAppendixE(t *testing.T) {
	base, per := secretHex(t, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"), secretHex(t, "1f1e1d1c1b1a191817161514131211100f0e0d0c0b0a09080706050403020100")
	point := per.Public()
	if base.Public().String() != "036d6caac248af96f6afa7f904f550253a0f3ef3f5aa2fe6838a95b216691468e2" || point.String() != "025f7117a78150fe2ef97db7cfc83bd57b2e2c0d0dd25eaf467a4a1c2a45ce1486" {
		t.Fatal("points are others")
	}
	local := commit.DeriveSecret(base, point)
	if got := hex.EncodeToString(local.Reveal()); got != "cbced912d3b21bf196a766651e436aff192362621ce317704ea2f75d87e7be0f" {
		t.Errorf("localprivkey is %s", got)
	}
	c := commit.Channel{}
	c.Local.Basepoints = commit.Basepoints{Delayed: base.Public(), HTLC: base.Public()}
	c.Remote.Basepoints = commit.Basepoints{Revocation: base.Public(), HTLC: base.Public()}
	k, err := c.Keys(commit.Local, point)
	if err != nil {
		t.Fatal(err)
	}
	if got := k.Delayed.String(); got != "0235f2dbfaa89b57ec7b055afe29849ef7ddfeb1cefdb9ebdc43f5494984db29e5" || k.HTLC != k.Delayed || k.OtherHTLC != k.Delayed || local.Public() != k.Delayed {
		t.Errorf("localpubkey is %s", got)
	}
	if got := k.Revocation.String(); got != "02916e326636d19c33f13e8c0c3a03dd157f332f3e99c317c141dd865eb01f8ff0" {
		t.Errorf("revocationpubkey is %s", got)
	}
	revocation, err := commit.RevocationSecret(base, [32]byte(per.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(revocation.Reveal()); got != "d09ffff62ddb2297ab000cc85bcb4283fdeb6aa052affbc9dddcf33b61078110" {
		t.Errorf("revocationprivkey is %s", got)
	}
}
