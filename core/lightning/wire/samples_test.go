package wire_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/chainhash/v2"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/wire"
)

func unhex(t testing.TB, text string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// x is n times a byte, in hex.
func x(b string, n int) string { return strings.Repeat(b, n) + " " }

func fill32(b byte) (a [32]byte) { return [32]byte([]byte(strings.Repeat(string(rune(b)), 32))) }

func point(b byte) (p keys.Public) {
	copy(p[:], "\x02"+strings.Repeat(string(rune(b)), 32))
	return p
}

func signature(b byte) (s keys.Signature) {
	copy(s[:], strings.Repeat(string(rune(b)), 64))
	return s
}

func signatureAt(b byte) *keys.Signature {
	s := signature(b)
	return &s
}

// samples has every message with every field, next to its bytes put together by
// hand from the tables of BOLT 1, 2 and 7.
var samples = []struct {
	message wire.Message
	hex     string
}{
	{&wire.Warning{ChannelID: fill32(1), Data: "hm"}, "0001" + x("01", 32) + "0002 686d"},
	{&wire.PeerStorage{Blob: []byte{1, 2, 3}}, "0007 0003 010203"},
	{&wire.PeerStorageRetrieval{Blob: []byte{4}}, "0009 0001 04"},
	{&wire.Init{
		GlobalFeatures: "\x20\x00", Features: "\x80\x20\x02", Networks: []chainhash.Hash{fill32(5), fill32(6)},
		RemoteAddr: wire.Address{Type: wire.IPv4, Host: "\x7f\x00\x00\x01", Port: 9735},
	}, "0010 0002 2000 0003 802002 01 40" + x("05", 32) + x("06", 32) + "03 07 01 7f000001 2607"},
	{&wire.Error{ChannelID: fill32(1), Data: "no"}, "0011" + x("01", 32) + "0002 6e6f"},
	{&wire.Ping{NumPongBytes: 7, BytesLen: 2}, "0012 0007 0002 0000"},
	{&wire.Pong{BytesLen: 7}, "0013 0007 00000000000000"},
	{&wire.OpenChannel{
		ChainHash: fill32(1), TemporaryChannelID: fill32(2), FundingSatoshis: 1_000_000, PushMsat: 1,
		DustLimitSatoshis: 354, MaxHTLCValueInFlightMsat: 1<<64 - 1, ChannelReserveSatoshis: 10_000,
		HTLCMinimumMsat: 1000, FeeratePerKW: 253, ToSelfDelay: 144, MaxAcceptedHTLCs: 483,
		FundingPubkey: point(3), RevocationBasepoint: point(4), PaymentBasepoint: point(5),
		DelayedPaymentBasepoint: point(6), HTLCBasepoint: point(7), FirstPerCommitmentPoint: point(8),
		ChannelFlags: wire.AnnounceChannel, UpfrontShutdownScript: []byte{}, ChannelType: wire.ChannelAnchors,
	}, "0020" + x("01", 32) + x("02", 32) + "00000000000f4240 0000000000000001 0000000000000162" +
		"ffffffffffffffff 0000000000002710 00000000000003e8 000000fd 0090 01e3" +
		"02" + x("03", 32) + "02" + x("04", 32) + "02" + x("05", 32) + "02" + x("06", 32) + "02" + x("07", 32) + "02" + x("08", 32) +
		"01 00 00 01 03 401000"},
	{&wire.AcceptChannel{
		TemporaryChannelID: fill32(2), DustLimitSatoshis: 354, MaxHTLCValueInFlightMsat: 5,
		ChannelReserveSatoshis: 10_000, HTLCMinimumMsat: 1000, MinimumDepth: 3, ToSelfDelay: 144, MaxAcceptedHTLCs: 483,
		FundingPubkey: point(3), RevocationBasepoint: point(4), PaymentBasepoint: point(5),
		DelayedPaymentBasepoint: point(6), HTLCBasepoint: point(7), FirstPerCommitmentPoint: point(8),
		UpfrontShutdownScript: []byte{0x51}, ChannelType: wire.ChannelStaticRemoteKey,
	}, "0021" + x("02", 32) + "0000000000000162 0000000000000005 0000000000002710 00000000000003e8 00000003 0090 01e3" +
		"02" + x("03", 32) + "02" + x("04", 32) + "02" + x("05", 32) + "02" + x("06", 32) + "02" + x("07", 32) + "02" + x("08", 32) +
		"00 01 51 01 02 1000"},
	{&wire.FundingCreated{TemporaryChannelID: fill32(2), FundingTxid: fill32(3), FundingOutputIndex: 258, Signature: signature(4)},
		"0022" + x("02", 32) + x("03", 32) + "0102" + x("04", 64)},
	{&wire.FundingSigned{ChannelID: fill32(2), Signature: signature(4)}, "0023" + x("02", 32) + x("04", 64)},
	{&wire.ChannelReady{ChannelID: fill32(2), SecondPerCommitmentPoint: point(3), ShortChannelID: 0x0102030405060708},
		"0024" + x("02", 32) + "02" + x("03", 32) + "01 08 0102030405060708"},
	{&wire.Shutdown{ChannelID: fill32(2), ScriptPubKey: []byte{0, 1}}, "0026" + x("02", 32) + "0002 0001"},
	{&wire.ClosingSigned{ChannelID: fill32(2), FeeSatoshis: 183, Signature: signature(4), FeeRange: &wire.FeeRange{MinFeeSatoshis: 100, MaxFeeSatoshis: 256}},
		"0027" + x("02", 32) + "00000000000000b7" + x("04", 64) + "01 10 0000000000000064 0000000000000100"},
	{&wire.ClosingComplete{Closing: wire.Closing{
		ChannelID: fill32(2), CloserScriptPubKey: []byte{1}, CloseeScriptPubKey: []byte{2, 3}, FeeSatoshis: 9, Locktime: 800_000,
		CloserOutputOnly: signatureAt(5), CloseeOutputOnly: signatureAt(6), CloserAndCloseeOutputs: signatureAt(7),
	}}, "0028" + x("02", 32) + "0001 01 0002 0203 0000000000000009 000c3500 01 40" + x("05", 64) + "02 40" + x("06", 64) + "03 40" + x("07", 64)},
	{&wire.ClosingSig{Closing: wire.Closing{
		ChannelID: fill32(2), CloserScriptPubKey: []byte{1}, CloseeScriptPubKey: []byte{2, 3}, FeeSatoshis: 9, Locktime: 800_000,
		CloserAndCloseeOutputs: signatureAt(7),
	}}, "0029" + x("02", 32) + "0001 01 0002 0203 0000000000000009 000c3500 03 40" + x("07", 64)},
	{&wire.UpdateAddHTLC{
		ChannelID: fill32(2), ID: 3, AmountMsat: 4_000_000, PaymentHash: fill32(5), CLTVExpiry: 800_144,
		OnionRoutingPacket: [wire.OnionSize]byte{0, 2, wire.OnionSize - 1: 9}, PathKey: point(6),
	}, "0080" + x("02", 32) + "0000000000000003 00000000003d0900" + x("05", 32) + "000c3590 0002" + x("00", 1363) + "09 00 21 02" + x("06", 32)},
	{&wire.UpdateFulfillHTLC{ChannelID: fill32(2), ID: 3, PaymentPreimage: fill32(4)}, "0082" + x("02", 32) + "0000000000000003" + x("04", 32)},
	{&wire.UpdateFailHTLC{ChannelID: fill32(2), ID: 3, Reason: []byte{4, 5}}, "0083" + x("02", 32) + "0000000000000003 0002 0405"},
	{&wire.CommitmentSigned{ChannelID: fill32(2), Signature: signature(3), HTLCSignatures: []keys.Signature{signature(4), signature(5)}},
		"0084" + x("02", 32) + x("03", 64) + "0002" + x("04", 64) + x("05", 64)},
	{&wire.RevokeAndAck{ChannelID: fill32(2), PerCommitmentSecret: fill32(3), NextPerCommitmentPoint: point(4)},
		"0085" + x("02", 32) + x("03", 32) + "02" + x("04", 32)},
	{&wire.UpdateFee{ChannelID: fill32(2), FeeratePerKW: 2500}, "0086" + x("02", 32) + "000009c4"},
	{&wire.UpdateFailMalformedHTLC{ChannelID: fill32(2), ID: 3, SHA256OfOnion: fill32(4), FailureCode: 0xc005},
		"0087" + x("02", 32) + "0000000000000003" + x("04", 32) + "c005"},
	{&wire.ChannelReestablish{ChannelID: fill32(2), NextCommitmentNumber: 3, NextRevocationNumber: 4, YourLastPerCommitmentSecret: fill32(5), MyCurrentPerCommitmentPoint: point(6)},
		"0088" + x("02", 32) + "0000000000000003 0000000000000004" + x("05", 32) + "02" + x("06", 32)},
	{&wire.ChannelAnnouncement{
		NodeSignature1: signature(1), NodeSignature2: signature(2), BitcoinSignature1: signature(3), BitcoinSignature2: signature(4),
		Features: "\x00\x01", ChainHash: fill32(5), ShortChannelID: 0x0102030405060708,
		NodeID1: point(6), NodeID2: point(7), BitcoinKey1: point(8), BitcoinKey2: point(9), Extra: []byte("\x02\x01any"),
	}, "0100" + x("01", 64) + x("02", 64) + x("03", 64) + x("04", 64) + "0002 0001" + x("05", 32) + "0102030405060708" +
		"02" + x("06", 32) + "02" + x("07", 32) + "02" + x("08", 32) + "02" + x("09", 32) + "02 01 616e79"},
	{&wire.NodeAnnouncement{
		Signature: signature(1), Features: "\x80", Timestamp: 1_700_000_000, NodeID: point(2), RGBColor: [3]byte{1, 2, 3}, Alias: wire.NewAlias("pump"),
		Addresses: []wire.Address{
			{Type: wire.IPv4, Host: "\x01\x02\x03\x04", Port: 9735},
			{Type: wire.IPv6, Host: "\x20\x01" + strings.Repeat("\x00", 13) + "\x09", Port: 9735},
			{Type: wire.TorV2, Host: "0123456789", Port: 1},
			{Type: wire.TorV3, Host: strings.Repeat("\x07", 35), Port: 2},
			{Type: wire.DNS, Host: "pump.example", Port: 3},
		},
		OtherAddresses: []byte{6, 1, 1}, Extra: []byte{1, 0},
	}, "0101" + x("01", 64) + "0001 80 6553f100 02" + x("02", 32) + "010203 70756d70" + x("00", 28) + "0060" +
		"01 01020304 2607  02 2001" + x("00", 13) + "09 2607  03 30313233343536373839 0001  04" + x("07", 35) + "0002" +
		"05 0c 70756d702e6578616d706c65 0003  060101  0100"},
	{&wire.ChannelUpdate{
		Signature: signature(1), ChainHash: fill32(2), ShortChannelID: 0x0102030405060708, Timestamp: 1_700_000_000,
		MessageFlags: wire.MustBeOne, ChannelFlags: wire.Direction | wire.Disable, CLTVExpiryDelta: 80, HTLCMinimumMsat: 1,
		FeeBaseMsat: 1000, FeeProportionalMillionths: 100, HTLCMaximumMsat: 1<<64 - 1, Extra: []byte{0xff},
	}, "0102" + x("01", 64) + x("02", 32) + "0102030405060708 6553f100 01 03 0050 0000000000000001 000003e8 00000064 ffffffffffffffff ff"},
	{&wire.AnnouncementSignatures{ChannelID: fill32(2), ShortChannelID: 0x0102030405060708, NodeSignature: signature(3), BitcoinSignature: signature(4)},
		"0103" + x("02", 32) + "0102030405060708" + x("03", 64) + x("04", 64)},
	{&wire.QueryShortChannelIDs{ChainHash: fill32(1), ShortChannelIDs: []wire.SCID{2, 3}, QueryFlags: []uint64{31, 1}},
		"0105" + x("01", 32) + "0011 00 0000000000000002 0000000000000003 01 03 00 1f 01"},
	{&wire.ReplyShortChannelIDsEnd{ChainHash: fill32(1), FullInformation: 1}, "0106" + x("01", 32) + "01"},
	{&wire.QueryChannelRange{ChainHash: fill32(1), FirstBlocknum: 2, NumberOfBlocks: 3, QueryOption: wire.WantTimestamps | wire.WantChecksums},
		"0107" + x("01", 32) + "00000002 00000003 01 01 03"},
	{&wire.ReplyChannelRange{
		ChainHash: fill32(1), FirstBlocknum: 2, NumberOfBlocks: 3, SyncComplete: 1, ShortChannelIDs: []wire.SCID{4},
		Timestamps: []wire.Timestamps{{NodeID1: 5, NodeID2: 6}}, Checksums: []wire.Checksums{{NodeID1: 7, NodeID2: 8}},
	}, "0108" + x("01", 32) + "00000002 00000003 01 0009 00 0000000000000004 01 09 00 00000005 00000006 03 08 00000007 00000008"},
	{&wire.GossipTimestampFilter{ChainHash: fill32(1), FirstTimestamp: 2, TimestampRange: 3}, "0109" + x("01", 32) + "00000002 00000003"},
}
