package lattice_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"coinop.dev/core/ledger/gossip"
	"coinop.dev/core/ledger/lattice"
)

// messages is one of every kind of message, small and as large as it may be.
func messages() (all []lattice.Message) {
	r := source(10)
	id := lattice.NewSecret(random(r))
	block := func() lattice.Block {
		return lattice.Block{Account: random(r), Previous: random(r), Representative: random(r), Balance: lattice.OneNano, Link: random(r), Work: r.Uint64()}
	}
	k := new(lattice.Keepalive)
	for i := range k.Peers {
		k.Peers[i] = netip.MustParseAddrPort(fmt.Sprintf("[2001:db8::%d]:%d", i, 7075+i))
	}
	all = append(all, k, &lattice.Publish{Block: block()}, &lattice.Publish{Block: block(), Originator: true}, &lattice.TelemetryReq{})
	for _, n := range []int{1, 15, 16, 17, 240, lattice.MaxVoteHashes} {
		req, vote := new(lattice.ConfirmReq), lattice.Vote{Timestamp: r.Uint64()}
		for range n {
			req.Pairs = append(req.Pairs, lattice.Pair{Hash: random(r), Root: random(r)})
			vote.Hashes = append(vote.Hashes, random(r))
		}
		vote.Sign(id)
		all = append(all, req, &lattice.ConfirmAck{Vote: vote}, &lattice.ConfirmAck{Vote: vote, Rebroadcast: true})
	}
	cookie := random(r)
	answer := lattice.NewHandshakeResponse(id, cookie, random(r), random(r))
	all = append(all, &lattice.Handshake{Query: &cookie}, &lattice.Handshake{Response: answer}, &lattice.Handshake{Query: &cookie, Response: answer})
	small := &lattice.Telemetry{Blocks: 9, Peers: 4, Genesis: random(r), Timestamp: 1_700_000_000_000}
	large := &lattice.Telemetry{Tail: make([]byte, lattice.MaxTelemetryTail)}
	small.Sign(id)
	large.Sign(id)
	all = append(all, small, large, &lattice.Telemetry{None: true})
	for _, ask := range []lattice.Ask{
		lattice.AskBlocks{Start: random(r), Count: 128}, lattice.AskBlocks{Start: random(r), Count: 1, ByBlock: true},
		lattice.AskAccount{Target: random(r)}, lattice.AskAccount{Target: random(r), ByBlock: true},
		lattice.AskFrontiers{Start: random(r), Count: lattice.MaxFrontiers},
	} {
		all = append(all, &lattice.AscPullReq{ID: r.Uint64(), Ask: ask})
	}
	var blocks lattice.Blocks
	for range lattice.MaxPullBlocks {
		blocks = append(blocks, block())
	}
	var frontiers lattice.Frontiers
	for range lattice.MaxFrontiers {
		frontiers = append(frontiers, lattice.Frontier{Account: random(r), Hash: random(r)})
	}
	info := lattice.AccountInfo{Account: random(r), Open: random(r), Head: random(r), Count: 5, Confirmed: random(r), ConfirmedHeight: 4}
	for _, answer := range []lattice.Answer{lattice.Blocks(nil), blocks[:1], blocks, info, lattice.AccountInfo{}, lattice.Frontiers(nil), frontiers[:2], frontiers} {
		all = append(all, &lattice.AscPullAck{ID: r.Uint64(), Answer: answer})
	}
	return all
}

// TestMessages sends every message and reads it again, as a whole and as a stream's
// reader would, and not with a byte less or more.
func TestMessages(t *testing.T) {
	for _, m := range messages() {
		raw := m.Append(nil, lattice.MagicTest)
		got, err := lattice.Decode(raw, lattice.MagicTest)
		if err != nil {
			t.Fatalf("%T of %d bytes: %v", m, len(raw), err)
		}
		if again := got.Append(nil, lattice.MagicTest); !bytes.Equal(again, raw) || got.Type() != m.Type() || raw[5] != m.Type() {
			t.Errorf("%T is written again as %x; it was %x", m, again, raw)
		}
		if reflect.TypeOf(got) != reflect.TypeOf(m) {
			t.Errorf("%T is read as %T", m, got)
		}
		if size, err := lattice.FrameSize([8]byte(raw)); err != nil || size != len(raw)-lattice.HeaderSize || size > lattice.MaxBody {
			t.Errorf("%T: %d bytes follow its header, %v; there are %d", m, size, err, len(raw)-lattice.HeaderSize)
		}
		if len(raw) > gossip.MaxFrame {
			t.Errorf("%T of %d bytes does not fit a frame", m, len(raw))
		}
		for _, wrong := range [][]byte{raw[:len(raw)-1], append(bytes.Clone(raw), 0), raw[:7], nil} {
			if m, err := lattice.Decode(wrong, lattice.MagicTest); err == nil {
				t.Errorf("%T is read of %d bytes; it has %d", m, len(wrong), len(raw))
			}
		}
		if _, err := lattice.Decode(raw, lattice.MagicLive); err == nil {
			t.Errorf("%T of another network is read", m)
		}
	}
}

// TestSignedMessages looks at who has signed what was sent.
func TestSignedMessages(t *testing.T) {
	for _, m := range messages() {
		raw := m.Append(nil, lattice.MagicTest)
		got, err := lattice.Decode(raw, lattice.MagicTest)
		if err != nil {
			t.Fatal(err)
		}
		switch m := got.(type) {
		case *lattice.ConfirmAck:
			good := m.Vote.Signed()
			m.Vote.Timestamp++
			if !good || m.Vote.Signed() {
				t.Errorf("vote of %d hashes is signed: %v", len(m.Vote.Hashes), good)
			}
		case *lattice.Telemetry:
			good := m.Signed()
			m.Peers++
			if good == m.None || m.Signed() {
				t.Errorf("telemetry with %d bytes at the end is signed: %v", len(m.Tail), good)
			}
		}
	}
}

// TestRefused is what a peer may not say, and what it is told.
func TestRefused(t *testing.T) {
	block := lattice.Block{}
	many := make(lattice.Blocks, lattice.MaxPullBlocks+1)
	legacy := (&lattice.AscPullAck{Answer: lattice.Blocks{block}}).Append(nil, lattice.MagicTest)
	legacy[17] = 2
	kind := (&lattice.AscPullReq{Ask: lattice.AskAccount{}}).Append(nil, lattice.MagicTest)
	kind[len(kind)-1] = 2
	unknown := bytes.Clone(kind)
	unknown[8] = 4
	with := func(typ uint8, extensions uint16, body int) []byte {
		return append(lattice.Header{Network: lattice.MagicTest, Max: 21, Using: 21, Min: 20, Type: typ, Extensions: extensions}.Append(nil), make([]byte, body)...)
	}
	older := with(lattice.TypeTelemetryReq, 0, 0)
	older[3] = 19
	trailing := with(lattice.TypeAscPullAck, 2, 0)
	trailing = append(append(trailing, 1, 0, 0, 0, 0, 0, 0, 0, 0), 1, 0)
	frontiers := make(lattice.Frontiers, lattice.MaxFrontiers)
	for i := range frontiers {
		frontiers[i].Hash[0] = 1
	}
	endless := (&lattice.AscPullAck{Answer: frontiers}).Append(nil, lattice.MagicTest)
	endless[len(endless)-1] = 1
	for _, c := range []struct {
		why string
		raw []byte
	}{
		{"type 6", with(6, 0, 0)},
		{"type 200", with(200, 0, 0)},
		{"block of type 2", with(lattice.TypePublish, 0x0200, 152)},
		{"no count", with(lattice.TypeConfirmReq, 0x0100, 0)},
		{"no count", with(lattice.TypeConfirmAck, 0x0600, 136)},
		{"version 1", with(lattice.TypeHandshake, 1, 32)},
		{"neither asks nor answers", with(lattice.TypeHandshake, 4, 0)},
		{"202 or more", with(lattice.TypeTelemetry, 201, 201)},
		{"limit is", with(lattice.TypeAscPullAck, 65535, 65544)},
		{"more than 128 blocks", (&lattice.AscPullAck{Answer: many}).Append(nil, lattice.MagicTest)},
		{"block of type 2", legacy},
		{"kind of hash is 2", kind},
		{"asks for 4", unknown},
		{"protocol 19", older},
		{"too many", trailing},
		{"more frontiers", endless},
	} {
		if m, err := lattice.Decode(c.raw, lattice.MagicTest); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%T: %v; want %s", m, err, c.why)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range messages() {
		f.Add(m.Append(nil, lattice.MagicTest))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := lattice.Decode(raw, lattice.MagicTest)
		if err != nil {
			return
		}
		// Versions and bits that nobody has given a meaning are the sender's: the
		// header may be another one.
		again := m.Append(nil, lattice.MagicTest)
		if !bytes.Equal(again[lattice.HeaderSize:], raw[lattice.HeaderSize:]) || again[5] != raw[5] {
			t.Fatalf("%T %x is written again as %x", m, raw, again)
		}
		if _, err := lattice.Decode(again, lattice.MagicTest); err != nil {
			t.Fatalf("%T %x is not read: %v", m, again, err)
		}
	})
}

func FuzzFrameSize(f *testing.F) {
	for _, m := range messages() {
		f.Add(m.Append(nil, lattice.MagicTest)[:lattice.HeaderSize])
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) != lattice.HeaderSize {
			return
		}
		if h := lattice.DecodeHeader([8]byte(raw)); !bytes.Equal(h.Append(nil), raw) {
			t.Fatalf("header %x is read as %+v", raw, h)
		}
		if n, err := lattice.FrameSize([8]byte(raw)); err == nil && (n < 0 || n > lattice.MaxBody) {
			t.Fatalf("header %x: %d bytes follow", raw, n)
		}
	})
}
