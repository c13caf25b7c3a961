package wire_test

import (
	"encoding/hex"
	"reflect"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/wire"
)

func secret(t *testing.T, last byte) keys.Secret {
	s, err := keys.SecretFromBytes(append(make([]byte, 31), last))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The digests are those that the nodes 2 and 3 and the funding keys 16 and 32
// sign in lightning/bolts, tests/events/bolt7-01-channel_announcement-success.
func TestDigestVectors(t *testing.T) {
	regtest := chainhash.Hash(unhex(t, "06226e46111a0b59caaf126043eb5bbf28c34f3a5e332a1fc7b2b73cf188910f"))
	scid, err := wire.ParseSCID("103x1x0")
	if err != nil {
		t.Fatal(err)
	}
	announcement := &wire.ChannelAnnouncement{
		ChainHash: regtest, ShortChannelID: scid,
		NodeID1: secret(t, 2).Public(), NodeID2: secret(t, 3).Public(),
		BitcoinKey1: secret(t, 0x10).Public(), BitcoinKey2: secret(t, 0x20).Public(),
	}
	update := &wire.ChannelUpdate{
		ChainHash: regtest, ShortChannelID: scid, Timestamp: 1565587763, MessageFlags: 1, ChannelFlags: 1,
		CLTVExpiryDelta: 48, HTLCMinimumMsat: 0, FeeBaseMsat: 100, FeeProportionalMillionths: 11, HTLCMaximumMsat: 100000,
	}
	for _, c := range []struct {
		digest func() [32]byte
		sign   *keys.Signature
		want   string
	}{
		{announcement.Digest, &announcement.NodeSignature1, "4ad0946fa8c3996015dec325c4b0540299287427ec8d8313842ce6f8dc06791a"},
		{update.Digest, &update.Signature, "d86dd6f31dc7956bae1e86407f38548fb2cda5f3f7441577694b1c5d455f153f"},
	} {
		unsigned := c.digest()
		if got := hex.EncodeToString(unsigned[:]); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
		*c.sign = secret(t, 2).Sign(unsigned)
		if c.digest() != unsigned {
			t.Error("the signature is in what it signs")
		}
	}
}

// A node of the future adds a field, which its signature covers. It must reach
// the others through us.
func TestTheSignatureCoversWhatWeDoNotUnderstand(t *testing.T) {
	s := secret(t, 7)
	m := &wire.NodeAnnouncement{NodeID: s.Public(), Timestamp: 1, Alias: wire.NewAlias("2030"), OtherAddresses: []byte{99, 1}, Extra: []byte{0xfd, 3, 1, 0}}
	m.Signature = s.Sign(m.Digest())

	got, err := wire.Decode(m.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	relayed := got.(*wire.NodeAnnouncement)
	if !relayed.NodeID.Verify(relayed.Digest(), relayed.Signature) {
		t.Error("the signature is lost on the way")
	}
	relayed.Extra = nil
	if relayed.NodeID.Verify(relayed.Digest(), relayed.Signature) {
		t.Error("the signature does not cover the new field")
	}
}

// A node of very many addresses is kept whole and read in part.
func TestManyAddresses(t *testing.T) {
	many := strings.Repeat("\x01\x0a\x00\x00\x01\x26\x07", 1000)
	m := &wire.NodeAnnouncement{OtherAddresses: []byte(many)}
	got, err := wire.Decode(m.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	read := got.(*wire.NodeAnnouncement)
	if len(read.Addresses) != wire.MaxAddresses || string(read.Append(nil)) != string(m.Append(nil)) {
		t.Errorf("%d addresses are read", len(read.Addresses))
	}
}

func TestAddresses(t *testing.T) {
	onion := strings.Repeat("a", 56) + ".onion:9735"
	for _, text := range []string{"1.2.3.4:9735", "[2001:db8::9]:1", "[::ffff:1.2.3.4]:80", onion, "pump-1.example.org:65535"} {
		a, err := wire.ParseAddress(text)
		if err != nil || a.String() != text {
			t.Errorf("%s: got %v, %v", text, a, err)
		}
	}
	for _, text := range []string{"", "1.2.3.4", "pump:", "pump:70000", ":1", "pümp:1", "a b:1", "short.onion:1", "[fe80::1%eth0]:1", strings.Repeat("a", 256) + ":1"} {
		if a, err := wire.ParseAddress(text); err == nil {
			t.Errorf("%q is taken for %v", text, a)
		}
	}
	if text := (wire.Address{Type: wire.DNS, Host: "a\nb", Port: 1}).String(); text != "a?b:1" {
		t.Errorf("got %q", text)
	}
	if text := (wire.Address{}).String(); text != "address type 0" {
		t.Errorf("got %q", text)
	}
}

func TestAliasIsSafeToPrint(t *testing.T) {
	if got := wire.NewAlias("a\x1b[31m" + strings.Repeat("b", 40)).String(); got != "a?[31m"+strings.Repeat("b", 26) {
		t.Errorf("got %q", got)
	}
}

// lightning/bolts, bolt07/extended-queries.json: all of them, those with zlib
// (which BOLT 7 has since forbidden) to be refused.
func TestExtendedQueryVectors(t *testing.T) {
	regtest := chainhash.Hash(unhex(t, "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206"))
	scids := func(texts ...string) (ids []wire.SCID) {
		for _, text := range texts {
			id, err := wire.ParseSCID(text)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		return ids
	}
	for _, c := range []struct {
		hex  string
		want wire.Message
	}{
		{"01070f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206000186a0000005dc",
			&wire.QueryChannelRange{ChainHash: regtest, FirstBlocknum: 100000, NumberOfBlocks: 1500}},
		{"01070f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206000088b800000064010103",
			&wire.QueryChannelRange{ChainHash: regtest, FirstBlocknum: 35000, NumberOfBlocks: 100, QueryOption: wire.WantTimestamps | wire.WantChecksums}},
		{"01080f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206000b8a06000005dc01001900000000000000008e0000000000003c69000000000045a6c4",
			&wire.ReplyChannelRange{ChainHash: regtest, FirstBlocknum: 756230, NumberOfBlocks: 1500, SyncComplete: 1,
				ShortChannelIDs: scids("0x0x142", "0x0x15465", "0x69x42692")}},
		{"01080f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206000006400000006e01001601789c636000833e08659309a65878be010010a9023a", nil},
		{"01080f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e22060001ddde000005dc01001900000000000000304300000000000778d6000000000046e1c1011900000282c1000e77c5000778ad00490ab00000b57800955bff031800000457000008ae00000d050000115c000015b300001a0a",
			&wire.ReplyChannelRange{ChainHash: regtest, FirstBlocknum: 122334, NumberOfBlocks: 1500, SyncComplete: 1,
				ShortChannelIDs: scids("0x0x12355", "0x7x30934", "0x70x57793"),
				Timestamps:      []wire.Timestamps{{NodeID1: 164545, NodeID2: 948165}, {NodeID1: 489645, NodeID2: 4786864}, {NodeID1: 46456, NodeID2: 9788415}},
				Checksums:       []wire.Checksums{{NodeID1: 1111, NodeID2: 2222}, {NodeID1: 3333, NodeID2: 4444}, {NodeID1: 5555, NodeID2: 6666}}}},
		{"01080f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e22060001ddde000005dc01001801789c63600001036730c55e710d4cbb3d3c080017c303b1012201789c63606a3ac8c0577e9481bd622d8327d7060686ad150c53a3ff0300554707db031800000457000008ae00000d050000115c000015b300001a0a", nil},
		{"01050f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206001900000000000000008e0000000000003c69000000000045a6c4",
			&wire.QueryShortChannelIDs{ChainHash: regtest, ShortChannelIDs: scids("0x0x142", "0x0x15465", "0x69x42692")}},
		{"01050f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206001801789c63600001c12b608a69e73e30edbaec0800203b040e", nil},
		{"01050f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e22060019000000000000002fc80000000000003cc4000000000045a6c4010c01789c6364620100000e0008", nil},
		{"01050f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206001801789c63600001f30a30c5b0cd144cb92e3b020017c6034a010c01789c6364620100000e0008", nil},
	} {
		raw := unhex(t, c.hex)
		got, err := wire.Decode(raw)
		switch {
		case c.want == nil && (err == nil || !strings.Contains(err.Error(), "zlib")):
			t.Errorf("%s: got %+v, %v", c.hex, got, err)
		case c.want != nil && (err != nil || !reflect.DeepEqual(got, c.want) || string(got.Append(nil)) != string(raw)):
			t.Errorf("%s: got %+v, %v", c.hex, got, err)
		}
	}
}

// Some nodes say "no channels" without even an encoding.
func TestNoChannels(t *testing.T) {
	for _, ids := range []string{"0000", "0001 00"} {
		got, err := wire.Decode(unhex(t, "0108"+x("01", 32)+"00000002 00000003 01 "+ids))
		if err != nil || !reflect.DeepEqual(got, &wire.ReplyChannelRange{ChainHash: fill32(1), FirstBlocknum: 2, NumberOfBlocks: 3, SyncComplete: 1}) {
			t.Errorf("%s: got %+v, %v", ids, got, err)
		}
	}
}
