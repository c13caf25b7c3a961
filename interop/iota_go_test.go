package interop

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/iotaledger/hive.go/serializer/v2"
	iotago "github.com/iotaledger/iota.go/v3"
	"github.com/iotaledger/iota.go/v3/merklehasher"
	"github.com/iotaledger/iota.go/v3/pow"
	_ "golang.org/x/crypto/blake2b" // which merklehasher finds by its number

	"coinop.dev/core/ledger/tangle"
)

// iotaParameters are what iota.go must know of a network of ours.
func iotaParameters(n *tangle.Network) *iotago.ProtocolParameters {
	return &iotago.ProtocolParameters{
		Version: tangle.Protocol, NetworkName: n.Name, Bech32HRP: iotago.NetworkPrefix(n.HRP),
		BelowMaxDepth: uint8(n.BelowMaxDepth), TokenSupply: n.Supply,
		RentStructure: iotago.RentStructure{VByteCost: uint32(n.StorageCost), VBFactorData: 1, VBFactorKey: 10},
	}
}

const iotaStrict = serializer.DeSeriModePerformValidation | serializer.DeSeriModePerformLexicalOrdering

// TestIotaGo: the library that HORNET is made of reads our blocks, writes the
// same bytes and JSON, finds the same IDs, and takes our signatures.
func TestIotaGo(t *testing.T) {
	maker := newTangleMaker(t, 5)
	params := iotaParameters(maker.net)
	for range 300 {
		b, spent := maker.block()
		raw := b.Append(nil)
		var theirs iotago.Block
		if _, err := theirs.Deserialize(raw, iotaStrict, params); err != nil {
			t.Fatalf("%x: %v", raw, err)
		}
		back, err := theirs.Serialize(iotaStrict, params)
		must(t, err)
		same(t, "bytes", back, raw)
		same(t, "ID", tangle.BlockID(theirs.MustID()), b.ID())
		same(t, "score", pow.Score(raw), tangle.Score(raw))

		text, err := json.Marshal(b)
		must(t, err)
		theirText, err := json.Marshal(&theirs)
		must(t, err)
		var any1, any2 any
		must(t, json.Unmarshal(text, &any1))
		must(t, json.Unmarshal(theirText, &any2))
		same(t, "JSON", any1, any2)
		var fromJSON iotago.Block
		must(t, json.Unmarshal(text, &fromJSON))
		same(t, "ID from JSON", tangle.BlockID(fromJSON.MustID()), b.ID())

		switch p := theirs.Payload.(type) {
		case *iotago.Transaction:
			id, err := p.ID()
			must(t, err)
			same(t, "transaction ID", tangle.TransactionID(id), b.Payload.(*tangle.Transaction).ID())
			iotaTakes(t, p, spent)
		case *iotago.Milestone:
			same(t, "milestone ID", tangle.MilestoneID(p.MustID()), b.Payload.(*tangle.Milestone).ID())
			keys := iotago.MilestonePublicKeySet{}
			for _, key := range maker.net.Coordinators {
				keys[key] = struct{}{}
			}
			must(t, p.VerifySignatures(maker.net.Threshold, keys))
		}
	}
}

func same(t *testing.T, what string, theirs, ours any) {
	t.Helper()
	if !reflect.DeepEqual(theirs, ours) {
		t.Fatalf("%s: they say %v; we say %v", what, theirs, ours)
	}
}

// iotaTakes has iota.go validate a transaction against what it spends.
func iotaTakes(t *testing.T, x *iotago.Transaction, spent []tangle.BasicOutput) {
	t.Helper()
	inputs := iotago.OutputSet{}
	for i, in := range x.Essence.Inputs {
		inputs[in.(*iotago.UTXOInput).ID()] = iotaOutput(t, spent[i])
	}
	must(t, x.SemanticallyValidate(&iotago.SemanticValidationContext{ExtParas: &iotago.ExternalUnlockParameters{ConfUnix: 1}}, inputs))
}

func iotaOutput(t *testing.T, o tangle.BasicOutput) *iotago.BasicOutput {
	t.Helper()
	var theirs iotago.BasicOutput
	_, err := theirs.Deserialize(o.Append(nil), serializer.DeSeriModePerformValidation, nil)
	must(t, err)
	return &theirs
}

// TestIotaGoMakes: what iota.go builds and signs, we read and take.
func TestIotaGoMakes(t *testing.T) {
	maker := newTangleMaker(t, 6)
	params := iotaParameters(maker.net)
	for range 100 {
		key := ed25519.NewKeyFromSeed(maker.bytes(32))
		owner := iotago.Ed25519AddressFromPubKey(key.Public().(ed25519.PublicKey))
		essence := &iotago.TransactionEssence{
			NetworkID: params.NetworkID(), Payload: &iotago.TaggedData{Tag: maker.bytes(tangle.MaxTagSize), Data: maker.bytes(40)},
		}
		var spent []tangle.BasicOutput
		var inputs iotago.Outputs
		sum := uint64(0)
		for range 1 + maker.random.IntN(5) {
			o := tangle.BasicOutput{Amount: 1 + maker.random.Uint64N(1<<40), Address: tangle.NewAddress([32]byte(key.Public().(ed25519.PublicKey)))}
			essence.Inputs = append(essence.Inputs, &iotago.UTXOInput{TransactionID: maker.bytes32(), TransactionOutputIndex: uint16(maker.random.IntN(128))})
			inputs = append(inputs, iotaOutput(t, o))
			spent, sum = append(spent, o), sum+o.Amount
		}
		essence.Outputs = iotago.Outputs{&iotago.BasicOutput{Amount: sum, Conditions: iotago.UnlockConditions{&iotago.AddressUnlockCondition{Address: &owner}}}}
		commitment, err := inputs.Commitment()
		must(t, err)
		signatures, err := essence.Sign(commitment, iotago.NewAddressKeysForEd25519Address(&owner, key))
		must(t, err)
		x := &iotago.Transaction{Essence: essence, Unlocks: iotago.Unlocks{&iotago.SignatureUnlock{Signature: signatures[0]}}}
		for range spent[1:] {
			x.Unlocks = append(x.Unlocks, &iotago.ReferenceUnlock{Reference: 0})
		}
		var parents iotago.BlockIDs
		for _, id := range maker.parents() {
			parents = append(parents, iotago.BlockID(id))
		}
		block := &iotago.Block{ProtocolVersion: tangle.Protocol, Parents: parents, Payload: x}
		raw, err := block.Serialize(iotaStrict, params)
		must(t, err)

		ours, err := tangle.DecodeBlock(raw)
		must(t, err)
		same(t, "bytes", raw, ours.Append(nil))
		must(t, ours.Check(maker.net))
		ourX := ours.Payload.(*tangle.Transaction)
		must(t, ourX.Verify())
		must(t, ourX.CheckSpent(spent))
		same(t, "address", owner.Bech32("tst"), spent[0].Address.Bech32("tst"))
		same(t, "storage deposit", (&iotago.RentStructure{VByteCost: 250, VBFactorData: 1, VBFactorKey: 10}).MinRent(iotaOutput(t, spent[0])), spent[0].StorageDeposit(250))
	}
}

// TestIotaGoWork: each takes the other's work, and Merkle roots are the same.
func TestIotaGoWork(t *testing.T) {
	maker := newTangleMaker(t, 7)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	maker.net.MinScore = 20
	for i := range 20 {
		b, _ := maker.block()
		size := len(b.Append(nil))
		b.Nonce = tangle.Mine(b.AppendUnworked(nil), maker.net.ZerosNeeded(size), maker.random.Uint64())
		if raw := b.Append(nil); pow.Score(raw) < float64(maker.net.MinScore) || !maker.net.Enough(size, tangle.Zeros(raw)) {
			t.Errorf("our work of %d bytes has a score of %v", size, pow.Score(raw))
		}
		if i >= 5 {
			continue
		}
		nonce, err := pow.New(1).Mine(ctx, b.AppendUnworked(nil), float64(maker.net.MinScore))
		must(t, err)
		b.Nonce = nonce
		if raw := b.Append(nil); !maker.net.Enough(size, tangle.ZerosOf([][]byte{raw})[0]) {
			t.Errorf("their work of %d bytes has %d zeros; we want %d", size, tangle.Zeros(raw), maker.net.ZerosNeeded(size))
		}
	}
	hasher := merklehasher.NewHasher(crypto.BLAKE2b_256)
	var ours []tangle.BlockID
	var theirs iotago.BlockIDs
	for range 100 {
		same(t, "root", tangle.Hash(hasher.HashBlockIDs(theirs)), tangle.MerkleRoot(ours))
		id := maker.bytes32()
		ours, theirs = append(ours, id), append(theirs, id)
	}
}
