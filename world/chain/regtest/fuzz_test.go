package regtest_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"
	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/world/chain/chaintest"
	"coinop.dev/world/chain/regtest"
)

// FuzzPeer says anything to the node: first as raw bytes, then as the payload
// of a message with a good frame. Whatever it was, the node must then serve
// another peer.
func FuzzPeer(f *testing.F) {
	n, err := regtest.Open(regtest.Options{Limits: regtest.Limits{Work: 1 << 30, MaxWork: 1 << 30}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { n.Close() })
	point, block := paid(f, n)
	_, tip, _ := n.Tip(f.Context())
	filter := wire.NewMsgFilterLoad([]byte{0xff}, 1, 0, wire.BloomUpdateAll)
	locator := wire.NewMsgGetHeaders()
	locator.BlockLocatorHashes = []*chainhash.Hash{&block}
	for _, msg := range []wire.Message{
		wire.NewMsgPing(1), filter, locator, wire.NewMsgMemPool(), wire.NewMsgFilterAdd([]byte{1}),
		getData(wire.InvTypeFilteredBlock, block), getData(wire.InvTypeWitnessBlock, block),
		wire.NewMsgGetCFilters(wire.GCSFilterRegular, 0, &tip), wire.NewMsgGetCFHeaders(wire.GCSFilterRegular, 0, &tip),
		wire.NewMsgGetCFCheckpt(wire.GCSFilterRegular, &tip), chaintest.Spend(point, chaintest.Value, 1, 2),
		regtest.Params().GenesisBlock, &wire.MsgHeaders{Headers: []*wire.BlockHeader{&regtest.Params().GenesisBlock.Header}},
	} {
		whole := encoded(msg)
		f.Add(msg.Command(), whole[wire.MessageHeaderSize:], false)
		f.Add(msg.Command(), whole[:len(whole)-1], true)
	}
	f.Fuzz(func(t *testing.T, command string, payload []byte, bare bool) {
		s := greet(t, n)
		s.say(filter)
		out := payload
		if !bare {
			out = frame(command, payload)
		}
		if _, err := io.Copy(s.raw, bytes.NewReader(out)); err == nil {
			s.Write(wire.NewMsgPing(7)) // a failure means that the node has hung up, as it may
		}
		s.raw.Close()
		greet(t, n).sync()
	})
}
