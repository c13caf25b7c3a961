package interop

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"os"
	"os/exec"
	"testing"
	"time"

	iotago "github.com/iotaledger/iota.go/v3"
	"github.com/iotaledger/iota.go/v3/builder"
	"github.com/iotaledger/iota.go/v3/nodeclient"

	"coinop.dev/core/keys"
	"coinop.dev/core/ledger/eddsa"
	"coinop.dev/core/ledger/tangle"
	"coinop.dev/core/ledger/tangle/node"
	"coinop.dev/core/step"
	"coinop.dev/engine"
	tanglenet "coinop.dev/engine/tangle"
	"coinop.dev/engine/tangle/rest"
	"coinop.dev/interop/peers"
	"coinop.dev/world/store/mem"
)

// tangleREST is a Tangle of one node, whose genesis belongs to an address, behind
// REST. The network wants some work, which the node does for those who do not.
func tangleREST(t *testing.T, owner tangle.Address) (*tangle.Network, string) {
	t.Helper()
	coordinator := eddsa.NewSecret(eddsa.SHA512, [32]byte{9})
	net, err := tangle.NewNetwork("coinop-rest", "tst", 1, [][32]byte{coordinator.Public()}, []tangle.BasicOutput{{Amount: 1_000_000, Address: owner}})
	must(t, err)
	net.MinScore = 1
	key, err := keys.NewSecret(rand.Reader)
	must(t, err)
	db, err := mem.New(nil)
	must(t, err)
	m := engine.New(t.Context(), engine.Options{Key: key, DB: db})
	t.Cleanup(func() { m.Close() })
	n, err := tanglenet.Open(t.Context(), m, tanglenet.Options{Config: node.Config{
		Network: net, Coordinator: node.Coordinator{Secret: coordinator, Primary: true, Interval: 100 * step.Millisecond},
	}})
	must(t, err)
	t.Cleanup(func() { n.Close() })
	s, err := rest.New(rest.Options{Node: n, Control: true})
	must(t, err)
	t.Cleanup(func() { s.Close() })
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return net, server.URL
}

// soon tries until something is so.
func soon(t *testing.T, what string, try func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !try(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it has not happened: ", what)
		}
	}
}

// TestIotaClientGo: IOTA's own Go client takes our node for one of Stardust's. It
// builds, works and hands in a transaction, waits for the milestone, and reads the
// outputs through the indexer.
func TestIotaClientGo(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{3}, 32))
	owner := iotago.Ed25519AddressFromPubKey(key.Public().(ed25519.PublicKey))
	net, url := tangleREST(t, tangle.NewAddress([32]byte(key.Public().(ed25519.PublicKey))))
	client := nodeclient.New(url)
	soon(t, "the node is healthy", func() bool {
		ok, err := client.Health(ctx)
		must(t, err)
		return ok
	})
	info, err := client.Info(ctx)
	must(t, err)
	params := &info.Protocol
	if params.NetworkID() != net.ID || params.TokenSupply != net.Supply || !info.Status.IsHealthy || params.MinPoWScore != 1 {
		t.Fatalf("info: %+v", info)
	}
	indexer, err := client.Indexer(ctx)
	must(t, err)
	if _, err := client.EventAPI(ctx); !errors.Is(err, nodeclient.ErrMQTTPluginNotAvailable) {
		t.Errorf("MQTT: %v", err)
	}
	find := func(a iotago.Address) (ids iotago.OutputIDs, outputs iotago.Outputs) {
		t.Helper()
		set, err := indexer.Outputs(ctx, &nodeclient.BasicOutputsQuery{AddressBech32: a.Bech32(params.Bech32HRP), IndexerCursorParas: nodeclient.IndexerCursorParas{PageSize: 1}})
		must(t, err)
		for set.Next() {
			some, err := set.Outputs()
			must(t, err)
			more, err := set.Response.Items.OutputIDs()
			must(t, err)
			ids, outputs = append(ids, more...), append(outputs, some...)
		}
		must(t, set.Error)
		return ids, outputs
	}
	ids, outputs := find(&owner)
	if len(outputs) != 1 || outputs[0].Deposit() != 1_000_000 {
		t.Fatalf("the genesis is %v", outputs)
	}

	t.Log("a transaction by their builder, with their work")
	shop := iotago.Ed25519AddressFromPubKey(bytes.Repeat([]byte{5}, 32))
	pay := func(a iotago.Address, amount uint64) *iotago.BasicOutput {
		return &iotago.BasicOutput{Amount: amount, Conditions: iotago.UnlockConditions{&iotago.AddressUnlockCondition{Address: a}}}
	}
	transactions := builder.NewTransactionBuilder(params.NetworkID()).
		AddInput(&builder.TxInput{UnlockTarget: &owner, InputID: ids[0], Input: outputs[0]}).
		AddOutput(pay(&shop, 250_000)).AddOutput(pay(&owner, 750_000)).
		AddTaggedDataPayload(&iotago.TaggedData{Tag: []byte("coinop"), Data: []byte("order 1")})
	signer := iotago.NewInMemoryAddressSigner(iotago.NewAddressKeysForEd25519Address(&owner, key))
	var tx *iotago.Transaction
	block, err := transactions.BuildAndSwapToBlockBuilder(params, signer, func(x *iotago.Transaction) { tx = x }).
		Tips(ctx, client).ProofOfWork(ctx, params, float64(params.MinPoWScore)).Build()
	must(t, err)
	id, err := client.SubmitBlock(ctx, block, params)
	must(t, err)
	same(t, "block ID", id, block.MustID())
	soon(t, "the transaction is included", func() bool {
		m, err := client.BlockMetadataByBlockID(ctx, id)
		must(t, err)
		return m.LedgerInclusionState == "included"
	})
	txID, err := tx.ID()
	must(t, err)
	included, err := client.TransactionIncludedBlock(ctx, txID, params)
	must(t, err)
	same(t, "included block", included.MustID(), id)
	ids, outputs = find(&owner)
	if len(outputs) != 1 || outputs[0].Deposit() != 750_000 {
		t.Fatalf("left is %v", outputs)
	}
	if _, outputs := find(&shop); len(outputs) != 1 || outputs[0].Deposit() != 250_000 {
		t.Fatalf("the shop has %v", outputs)
	}
	o, err := client.OutputWithMetadataByID(ctx, ids[0])
	must(t, err)
	read, err := o.Output()
	must(t, err)
	if o.Metadata.Spent || o.Metadata.BlockID != id.ToHex() || read.Deposit() != 750_000 {
		t.Errorf("output: %+v, %v", o.Metadata, read)
	}
	m, err := client.MilestoneByIndex(ctx, o.Metadata.MilestoneIndexBooked)
	must(t, err)
	must(t, m.VerifySignatures(1, iotago.MilestonePublicKeySet{net.Coordinators[0]: {}}))
	byID, err := client.MilestoneByID(ctx, m.MustID())
	must(t, err)
	same(t, "milestone", byID, m)
	changes, err := client.MilestoneUTXOChangesByIndex(ctx, m.Index)
	must(t, err)
	if len(changes.CreatedOutputs) != 2 || len(changes.ConsumedOutputs) != 1 {
		t.Errorf("changes: %+v", changes)
	}

	t.Log("a block that our node gives parents and work")
	id, err = client.SubmitBlock(ctx, &iotago.Block{ProtocolVersion: 2, Payload: &iotago.TaggedData{Tag: []byte("meter"), Data: []byte("21.5 C")}}, params)
	must(t, err)
	data, err := client.BlockByBlockID(ctx, id, params)
	must(t, err)
	if p, ok := data.Payload.(*iotago.TaggedData); !ok || string(p.Data) != "21.5 C" {
		t.Errorf("data: %+v", data)
	}
	raw, err := data.Serialize(iotaStrict, params)
	must(t, err)
	if !net.Enough(len(raw), tangle.Zeros(raw)) {
		t.Error("the block has too little work")
	}

	t.Log("errors, as they read them")
	if _, err := client.BlockByBlockID(ctx, iotago.BlockID{1}, params); !errors.Is(err, nodeclient.ErrHTTPNotFound) {
		t.Errorf("no block: %v", err)
	}
	if _, err := client.Treasury(ctx); !errors.Is(err, nodeclient.ErrHTTPNotFound) {
		t.Errorf("treasury: %v", err)
	}
	if _, err := client.Peers(ctx); err != nil {
		t.Errorf("peers: %v", err)
	}
}

// TestIotaClientJS: IOTA's own JavaScript client sends data and money through our
// node and reads them back.
func TestIotaClientJS(t *testing.T) {
	script, err := peers.InstallNode(t.Context(), "iota", "client.js")
	if errors.Is(err, peers.ErrNoNode) {
		t.Skip(err)
	}
	must(t, err)
	cmd := exec.CommandContext(t.Context(), "node", script)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	js := &iotaJS{t, in, bufio.NewReader(out)}

	var hash string
	js.answer(ask{"ask": "address"}, &hash)
	raw, err := hex.DecodeString(hash)
	must(t, err)
	owner := tangle.Address(append([]byte{0}, raw...))
	net, url := tangleREST(t, owner)
	soon(t, "the node is healthy", func() (ok bool) {
		js.answer(ask{"ask": "health", "url": url}, &ok)
		return ok
	})
	var info struct {
		Protocol struct{ NetworkName, Bech32Hrp string }
		Features []string
	}
	js.answer(ask{"ask": "info", "url": url}, &info)
	if info.Protocol.NetworkName != net.Name || info.Protocol.Bech32Hrp != net.HRP || len(info.Features) != 1 {
		t.Errorf("info: %+v", info)
	}
	var tips []tangle.BlockID
	js.answer(ask{"ask": "tips", "url": url}, &tips)
	if len(tips) == 0 {
		t.Error("there are no tips")
	}

	t.Log("data")
	var id tangle.BlockID
	js.answer(ask{"ask": "data", "url": url, "tag": "meter", "data": "21.5 C"}, &id)
	js.equal(ask{"ask": "retrieve", "url": url, "id": id}, "21.5 C")
	var text string
	js.answer(ask{"ask": "raw", "url": url, "id": id}, &text)
	raw, err = hex.DecodeString(text)
	must(t, err)
	same(t, "block", tangle.IDOf(raw), id)
	var block tangle.Block
	js.answer(ask{"ask": "block", "url": url, "id": id}, &block)
	same(t, "block", block.ID(), id)
	type metadata struct {
		IsSolid                    bool
		LedgerInclusionState       string
		ReferencedByMilestoneIndex uint32
	}
	var m metadata
	soon(t, "a milestone includes the data", func() bool {
		js.answer(ask{"ask": "metadata", "url": url, "id": id}, &m)
		return m.LedgerInclusionState == "noTransaction"
	})
	var milestone tangle.Milestone
	js.answer(ask{"ask": "milestone", "url": url, "index": m.ReferencedByMilestoneIndex}, &milestone)
	must(t, milestone.Verify(net))
	empty := tangle.Block{Protocol: tangle.Protocol, Parents: []tangle.BlockID{id}}
	empty.Nonce = tangle.Mine(empty.AppendUnworked(nil), net.ZerosNeeded(len(empty.Append(nil))), 0)
	js.equal(ask{"ask": "submitRaw", "url": url, "hex": hex.EncodeToString(empty.Append(nil))}, empty.ID().String())

	t.Log("money")
	js.equal(ask{"ask": "balance", "url": url, "address": owner.Bech32("tst")}, "1000000")
	shop := tangle.NewAddress([32]byte{1}).Bech32("tst")
	js.answer(ask{"ask": "send", "url": url, "address": shop, "amount": 1234, "data": "order 1"}, &id)
	soon(t, "a milestone applies the transfer", func() bool {
		js.answer(ask{"ask": "metadata", "url": url, "id": id}, &m)
		return m.LedgerInclusionState == "included"
	})
	js.equal(ask{"ask": "balance", "url": url, "address": shop}, "1234")
	js.equal(ask{"ask": "total", "url": url}, "998766")
	js.answer(ask{"ask": "block", "url": url, "id": id}, &block)
	tx := block.Payload.(*tangle.Transaction)
	var included json.RawMessage
	js.answer(ask{"ask": "included", "url": url, "id": tx.ID()}, &included)
	var again tangle.Block
	must(t, json.Unmarshal(included, &again))
	same(t, "included block", again.ID(), id)
	var changes struct{ CreatedOutputs []tangle.OutputID }
	js.answer(ask{"ask": "changes", "url": url, "index": m.ReferencedByMilestoneIndex}, &changes)
	same(t, "created outputs", len(changes.CreatedOutputs), 2)
}
