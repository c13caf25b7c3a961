package tangle_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"strconv"
	"testing"

	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/ternary"
)

// vectors are other people's: see _origin in the file.
type vectors struct {
	Bech32 []struct {
		Key     string `json:"ed25519_public_key"`
		Address string `json:"ed25519_address"`
		IOTA    string
		Atoi    string
		SMR     string
		RMS     string
	}
	Pow []struct {
		Message   string
		Digest    string `json:"pow_digest"`
		Nonce     string
		CurlInput string `json:"curl_input_trytes"`
		Hash      string `json:"pow_hash_trytes"`
		Zeros     int    `json:"trailing_zeros"`
		Score     float64
	}
	Block []struct {
		Hex string
		ID  string `json:"block_id"`
	}
	Merkle []struct {
		Leaves []string
		Root   string
	}
	NetworkID   map[string]string `json:"network_id"`
	Transaction []struct {
		Network string
		Hex     string `json:"payload_hex"`
		ID      string `json:"transaction_id"`
		Digest  string `json:"signed_digest"`
	}
	Milestone []struct {
		Hex   string `json:"payload_hex"`
		ID    string `json:"milestone_id"`
		Valid []bool `json:"signatures_valid"`
	}
}

func read(t *testing.T) (v vectors) {
	t.Helper()
	raw, err := os.ReadFile("testdata/iota.json")
	must(t, err)
	must(t, json.Unmarshal(raw, &v))
	return v
}

func TestAddressVectors(t *testing.T) {
	for _, v := range read(t).Bech32 {
		a := tangle.NewAddress([32]byte(unhex(t, v.Key)))
		equal(t, "address", a.String(), "0x00"+v.Address)
		for hrp, want := range map[string]string{"iota": v.IOTA, "atoi": v.Atoi, "smr": v.SMR, "rms": v.RMS} {
			equal(t, hrp, a.Bech32(hrp), want)
			back, err := tangle.ParseAddress(hrp, want)
			must(t, err)
			equal(t, want, back, a)
			_, err = tangle.ParseAddress("tst", want)
			refuses(t, "another network's", err, "is of network")
			_, err = tangle.ParseAddress(hrp, want[:len(want)-1]+"q")
			refuses(t, "a slip of the pen", err, "copy it again")
		}
	}
	nft := tangle.Address{0: 16}
	_, err := tangle.ParseAddress("smr", nft.Bech32("smr"))
	refuses(t, "an NFT's address", err, "Ed25519")
}

func TestWorkVectors(t *testing.T) {
	for _, v := range read(t).Pow {
		block := unhex(t, v.Message)
		equal(t, "zeros", tangle.Zeros(block), v.Zeros)
		equal(t, "zeros of many", tangle.ZerosOf([][]byte{block}), []int{v.Zeros})
		equal(t, "score", tangle.Score(block), v.Score)
		in := ternary.Trytes(append(ternary.B1T6(append(unhex(t, v.Digest), block[len(block)-8:]...)), 0, 0, 0))
		equal(t, "curl input", in, v.CurlInput)
		trits, err := ternary.ParseTrytes(in)
		must(t, err)
		equal(t, "hash", ternary.CurlSum(trits).String(), v.Hash)
		nonce, err := strconv.ParseUint(v.Nonce, 10, 64)
		must(t, err)
		found, ok := tangle.NewSearch(block[:len(block)-8], v.Zeros).Step(nonce - 40)
		if equal(t, "nonce", found, nonce); !ok {
			t.Error("the nonce is not found")
		}
	}
}

func TestBlockVectors(t *testing.T) {
	for _, v := range read(t).Block {
		raw := unhex(t, v.Hex)
		b, err := tangle.DecodeBlock(raw)
		must(t, err)
		equal(t, "block", hex.EncodeToString(b.Append(nil)), v.Hex)
		equal(t, "ID", b.ID().String(), "0x"+v.ID)
		equal(t, "ID of bytes", tangle.IDOf(raw), b.ID())
		data := b.Payload.(*tangle.TaggedData)
		equal(t, "tag and data", string(data.Tag)+" "+string(data.Data), "IOTA hello world")
	}
}

func TestMerkleVectors(t *testing.T) {
	for _, v := range read(t).Merkle {
		var ids []tangle.BlockID
		for _, leaf := range v.Leaves {
			ids = append(ids, tangle.BlockID(unhex(t, leaf)))
		}
		equal(t, "root", tangle.MerkleRoot(ids).String(), "0x"+v.Root)
	}
}

func TestNetworkIDVectors(t *testing.T) {
	v := read(t).NetworkID
	delete(v, "source")
	for name, want := range v {
		equal(t, name, strconv.FormatUint(tangle.NetworkID(name), 10), want)
	}
}

func TestTransactionVectors(t *testing.T) {
	for _, v := range read(t).Transaction {
		tx, err := tangle.DecodeTransaction(unhex(t, v.Hex))
		must(t, err)
		equal(t, "transaction", hex.EncodeToString(tx.Append(nil)), v.Hex)
		equal(t, "ID", tx.ID().String(), "0x"+v.ID)
		digest := tx.Essence.Digest()
		equal(t, "digest", hex.EncodeToString(digest[:]), v.Digest)
		equal(t, "network", tx.Essence.NetworkID, tangle.NetworkID(v.Network))
		must(t, tx.Verify())
		unlock := tx.Unlocks[0].(tangle.SignatureUnlock)
		unlock.Signature[0] ^= 1
		tx.Unlocks[0] = unlock
		refuses(t, "a changed signature", tx.Verify(), "does not hold")
	}
}

func TestMilestoneVectors(t *testing.T) {
	for _, v := range read(t).Milestone {
		m, err := tangle.DecodeMilestone(unhex(t, v.Hex))
		must(t, err)
		equal(t, "milestone", hex.EncodeToString(m.Append(nil)), v.Hex)
		equal(t, "ID", m.ID().String(), "0x"+v.ID)
		var valid []bool
		for _, c := range m.Checks() {
			valid = append(valid, c.Verify())
		}
		equal(t, "signatures", valid, v.Valid)
	}
}
