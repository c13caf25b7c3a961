package light_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/btcsuite/btcd/wire/v2"

	"coinop.dev/core/bitcoin/light"
	"coinop.dev/core/bitcoin/watch"
	"coinop.dev/core/step"
)

var commands = []wire.Message{
	&wire.MsgHeaders{}, &wire.MsgCFHeaders{}, &wire.MsgCFCheckpt{}, &wire.MsgCFilter{}, &wire.MsgBlock{}, &wire.MsgInv{},
	&wire.MsgGetData{}, &wire.MsgNotFound{}, &wire.MsgTx{}, &wire.MsgMerkleBlock{}, &wire.MsgReject{}, &wire.MsgPing{}, &wire.MsgPong{},
}

// FuzzStep has peers say whatever the bytes are: pieces with a head of 4 bytes,
// which are what it is, who says it and its length. What begins with 0x80 is said
// after an honest peer has answered something.
func FuzzStep(f *testing.F) {
	tr := newTree(regtest())
	tip, _, _, _, _ := payment(tr)
	piece := func(kind, who byte, msg wire.Message) []byte {
		var b bytes.Buffer
		if err := msg.BtcEncode(&b, wire.FeeFilterVersion, wire.WitnessEncoding); err != nil {
			f.Fatal(err)
		}
		return append(binary.LittleEndian.AppendUint16([]byte{kind, who}, uint16(b.Len())), b.Bytes()...)
	}
	n := newNode("n", tip)
	hash := tip.hash
	f.Add(false, piece(0, 0, headersOf(tip.path()[1:])))
	f.Add(true, append(piece(0, 0, headersOf(tip.path()[1:])), piece(4, 1, tip.MsgBlock)...))
	f.Add(false, append(piece(0x80, 0, headersOf(tip.path()[1:3])), piece(3, 1, wire.NewMsgCFilter(0, &hash, tip.filter))...))
	for _, ask := range []wire.Message{wire.NewMsgGetCFHeaders(0, 1, &hash), wire.NewMsgGetCFilters(0, 1, &hash)} {
		var all []byte
		for _, m := range n.answer(ask) {
			kind := byte(1)
			if m.Command() == wire.CmdCFilter {
				kind = 3
			}
			all = append(all, piece(kind, 0, m)...)
		}
		f.Add(true, all)
	}
	f.Fuzz(func(t *testing.T, synced bool, raw []byte) {
		b := newBench(t, tr, light.Options{})
		b.every = 1 << 30
		b.step(light.Watch{Scripts: []watch.Script{{Script: script(1)}, {Script: script(2)}}})
		h := newNode("h", tip)
		b.connect(h, newNode("a", tip), newNode("b", tip))
		if synced {
			b.run()
			b.step(light.Publish{Tx: pay(tr.nowhere(), script(5))})
		}
		for len(raw) >= 4 {
			kind, who, size := raw[0], raw[1], min(int(binary.LittleEndian.Uint16(raw[2:])), len(raw)-4)
			if kind&0x80 != 0 && len(b.queue) > 0 {
				b.step(b.queue[0])
				b.queue = b.queue[1:]
			}
			kind &= 0x7f
			msg := clone(commands[int(kind)%len(commands)])
			err := msg.BtcDecode(bytes.NewReader(raw[4:4+size]), wire.FeeFilterVersion, wire.WitnessEncoding)
			if raw = raw[4+size:]; err != nil {
				continue
			}
			name := string([]byte{"ab"[who%2]})
			b.step(step.Recv{From: name, Msg: msg})
			if err := b.client.Bounded(); err != nil {
				t.Fatal(err)
			}
		}
		b.check()
		// Whatever was said, an honest peer is heard in the end.
		for range 3 {
			b.pass(light.AnswerTime)
			b.connect(h)
		}
		if b.banned["h"] != nil {
			t.Fatalf("the honest peer is banned: %v", b.banned["h"])
		}
		b.agrees(tip, script(1), script(2))
	})
}

func clone(m wire.Message) wire.Message {
	switch m.(type) {
	case *wire.MsgHeaders:
		return &wire.MsgHeaders{}
	case *wire.MsgCFHeaders:
		return &wire.MsgCFHeaders{}
	case *wire.MsgCFCheckpt:
		return &wire.MsgCFCheckpt{}
	case *wire.MsgCFilter:
		return &wire.MsgCFilter{}
	case *wire.MsgBlock:
		return &wire.MsgBlock{}
	case *wire.MsgInv:
		return &wire.MsgInv{}
	case *wire.MsgGetData:
		return &wire.MsgGetData{}
	case *wire.MsgNotFound:
		return &wire.MsgNotFound{}
	case *wire.MsgTx:
		return &wire.MsgTx{}
	case *wire.MsgMerkleBlock:
		return &wire.MsgMerkleBlock{}
	case *wire.MsgReject:
		return &wire.MsgReject{}
	case *wire.MsgPing:
		return &wire.MsgPing{}
	}
	return &wire.MsgPong{}
}
