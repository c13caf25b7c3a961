package bccapi_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chaincfg/v2"
	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/tx"
	"coinop.dev/gateway/bccapi"
)

// The original has no test and no recorded frame. These were put together by
// hand from the classes that the package comment names. The address, the ids and
// the transaction are those of its example CustomBuiltTransaction.java, which
// spells a transaction id as people do and puts it into a Sha256Hash as it is.
const (
	exampleID = "cdb553214a51ef8d4393b96a185ebbbc2c84b7014e9497fea8aec1ff990dae35"
	exampleTx = "01000000 01 35ae0d99ffc1aea8fe97944e01b7842cbcbb5e186ab993438def514a2153b5cd 00000000 03010075 ffffffff" +
		"01 b01df50500000000 1976a914d994aabea310efb308baa96c044aeae1fe1c413188ac 00000000"
	exampleAddress = "00d994aabea310efb308baa96c044aeae1fe1c4131" // 1LqTjBzMRdXQqXpRQo1zDYRiUobAVS55Lo
	exampleScript  = "76a914d994aabea310efb308baa96c044aeae1fe1c413188ac"
)

type golden struct {
	name    string
	frame   string // hex
	message bccapi.Message
}

func goldens(t testing.TB) []golden {
	id, err := chainhash.NewHashFromStr(exampleID)
	if err != nil {
		t.Fatal(err)
	}
	example, err := tx.Parse(unhex(t, exampleTx))
	if err != nil {
		t.Fatal(err)
	}
	address := bccapi.Address(unhex(t, exampleAddress))
	output := bccapi.Output{Point: wire.OutPoint{Hash: *id, Index: 253}, Height: 215_000, Value: 99_950_000, Script: unhex(t, exampleScript)}
	waits := output
	waits.Point.Index, waits.Height = 1, bccapi.Waiting
	summary := bccapi.Summary{
		ID: *id, Height: 215_000, Time: 1_355_000_000,
		Inputs:  []bccapi.Item{{Address: address, Value: 100_000_000}},
		Outputs: []bccapi.Item{{Address: address, Value: 99_950_000}, {}},
	}
	zero := strings.Repeat("00", 21)
	return []golden{
		{"error", "01 0d000000 06000000 05000000 77726f6e67", &bccapi.Error{Code: bccapi.InvalidRequest, Text: "wrong"}},
		{"queryBalance", "04 2e000000 02000000" + exampleAddress + zero, bccapi.BalanceRequest{Addresses: []bccapi.Address{address, {}}}},
		{"balance", "05 25000000 02 20000000 0100000000000000 0200000000000000 0300000000000000 00f2052a01000000",
			bccapi.BalanceResponse{Balance: bccapi.Balance{Unspent: 1, Receiving: 2, Sending: 3, Change: 5_000_000_000}}},
		{"queryUnspentOutputs", "06 19000000 01000000" + exampleAddress, bccapi.UnspentRequest{Addresses: []bccapi.Address{address}}},
		{"unspent outputs", "07 a0000000" +
			"01000000" + exampleID + "fdfd00 d8470300 b01df50500000000 19" + exampleScript +
			"00000000" +
			"01000000" + exampleID + "01 ffffffff b01df50500000000 19" + exampleScript +
			"d9470300",
			bccapi.UnspentResponse{Unspent: []bccapi.Output{output}, Receiving: []bccapi.Output{waits}, Height: 215_001}},
		{"queryTransactionInventory", "08 1d000000 01000000" + exampleAddress + "0a000000", bccapi.InventoryRequest{Addresses: []bccapi.Address{address}, Limit: 10}},
		{"inventory", "09 2c000000 01000000" + exampleID + "ffffffff d9470300",
			bccapi.InventoryResponse{Transactions: []bccapi.InventoryItem{{ID: *id, Height: bccapi.Waiting}}, Height: 215_001}},
		{"queryTransactionSummary", "10 24000000 01000000" + exampleID, bccapi.SummaryRequest{IDs: []chainhash.Hash{*id}}},
		{"summaries", "11 90000000 01000000" +
			"03 83000000" + exampleID + "d8470300 c0a8c350" +
			"0100" + exampleAddress + "00e1f50500000000" +
			"0200" + exampleAddress + "b01df50500000000" + zero + "0000000000000000" +
			"d9470300",
			bccapi.SummaryResponse{Transactions: []bccapi.Summary{summary}, Height: 215_001}},
		{"broadcastTransaction", "12 58000000" + exampleTx, bccapi.BroadcastRequest{Tx: example}},
		{"broadcast", "13 20000000" + exampleID, bccapi.BroadcastResponse{ID: *id}},
	}
}

func TestFramesOfTheOriginal(t *testing.T) {
	for _, g := range goldens(t) {
		frame := unhex(t, g.frame)
		if got := bccapi.Append(nil, g.message); !bytes.Equal(got, frame) {
			t.Errorf("%s is written\n%x and must be\n%x", g.name, got, frame)
		}
		if got, err := bccapi.Decode(frame); err != nil || !reflect.DeepEqual(got, g.message) {
			t.Errorf("%s is read as %+v, error %v", g.name, got, err)
		}
	}
	a := bccapi.Address(unhex(t, exampleAddress))
	if a.String() != "1LqTjBzMRdXQqXpRQo1zDYRiUobAVS55Lo" {
		t.Error("address is", a)
	}
	if script, err := a.Script(&chaincfg.MainNetParams); err != nil || hex.EncodeToString(script) != exampleScript {
		t.Errorf("script is %x, error %v", script, err)
	}
}

// TestLaterVersionsSayMore appends what nobody knows to every payload, also to
// the payload of a frame inside of a frame, and to the frame.
func TestLaterVersionsSayMore(t *testing.T) {
	for _, g := range goldens(t) {
		frame := unhex(t, g.frame)
		binary.LittleEndian.PutUint32(frame[1:], uint32(len(frame)-5+3))
		frame = append(frame, 1, 2, 3, 'e', 'n', 'd')
		if got, err := bccapi.Decode(frame); err != nil || !reflect.DeepEqual(got, g.message) {
			t.Errorf("%s with more bytes is read as %+v, error %v", g.name, got, err)
		}
	}
	nested := unhex(t, "05 2a000000 02 22000000 0100000000000000 0200000000000000 0300000000000000 0400000000000000 abcd efefef")
	want := bccapi.BalanceResponse{Balance: bccapi.Balance{Unspent: 1, Receiving: 2, Sending: 3, Change: 4}}
	if got, err := bccapi.Decode(nested); err != nil || got != want {
		t.Errorf("balance in a longer frame is %+v, error %v", got, err)
	}
}

func TestCutFramesAreRefused(t *testing.T) {
	for _, g := range goldens(t) {
		frame := unhex(t, g.frame)
		for n := range frame {
			if m, err := bccapi.Decode(frame[:n]); err == nil {
				t.Fatalf("%s cut to %d bytes is read as %+v", g.name, n, m)
			}
			cut := bytes.Clone(frame[:n])
			if n < 5 {
				continue
			}
			binary.LittleEndian.PutUint32(cut[1:], uint32(n-5))
			if m, err := bccapi.Decode(cut); err == nil {
				t.Fatalf("%s with a payload of %d bytes is read as %+v", g.name, n-5, m)
			}
		}
	}
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
