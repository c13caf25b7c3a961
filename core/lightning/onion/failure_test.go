package onion_test

import (
	"bytes"
	"encoding/hex"
	"math"
	"reflect"
	"strings"
	"testing"

	"coinop.dev/core/lightning/onion"
	"coinop.dev/core/money"
)

func TestOfficialFailure(t *testing.T) {
	v := vectors[struct {
		Failure hexBytes
		Steps   []struct{ Secret, Ammag, Reason hexBytes }
	}](t, "error.json")
	want := onion.Failure{Code: onion.CodeTemporaryNodeFailure, Data: []byte{}}
	if !bytes.Equal(v.Failure, []byte{0x20, 0x02}) {
		t.Fatalf("vector is about %x", v.Failure)
	}
	var reason []byte
	var secrets [][32]byte
	for i, step := range v.Steps { // from the erring node to the origin
		secret := [32]byte(step.Secret)
		if i == 0 {
			reason = want.Seal(secret)
		} else {
			reason = onion.Obscure(secret, reason)
		}
		if !bytes.Equal(reason, step.Reason) {
			t.Fatalf("step %d is\n%x, want\n%x", i, reason, step.Reason)
		}
		secrets = append([][32]byte{secret}, secrets...)
	}
	hop, f, err := onion.Open(secrets, reason)
	if hop != 4 || err != nil || !reflect.DeepEqual(f, want) {
		t.Errorf("opens as hop %d, %v, %v", hop, f, err)
	}
}

// The newer trace in 04-onion-routing.md, "Test Vector", "Returning Errors":
// the message has a TLV record of 300 bytes at its end, which is passed over.
func TestOfficialFailureWithTLV(t *testing.T) {
	data, _ := hex.DecodeString("0000000000000064000c3500fd84d1fd012c" + strings.Repeat("80", 300))
	shared := [32]byte{1}
	hop, f, err := onion.Open([][32]byte{shared}, onion.Failure{Code: 0x400f, Data: data}.Seal(shared))
	if err != nil || hop != 0 || f.Code != onion.CodeUnknownPaymentDetails {
		t.Fatalf("hop %d, %v, %v", hop, f, err)
	}
	d, err := f.Details()
	if err != nil || d.Amount != 100 || d.Height != 800000 {
		t.Errorf("details are %+v, %v; want 100 msat at 800000", d, err)
	}
}

// Whatever hop fails, the origin learns which, and nobody else sees how far the
// failure has come.
func TestFailureNamesItsHop(t *testing.T) {
	_, secrets := build(t, route(t, onion.MaxHops, 10))
	for failing := range secrets {
		reason := onion.FinalIncorrectCLTVExpiry(uint32(failing)).Seal(secrets[failing])
		size := len(reason)
		for i := failing - 1; i >= 0; i-- {
			reason = onion.Obscure(secrets[i], reason)
		}
		if len(reason) != size || size != 32+2+256+2 {
			t.Fatalf("reason has %d bytes; it began with %d", len(reason), size)
		}
		hop, f, err := onion.Open(secrets, reason)
		if err != nil || hop != failing {
			t.Fatalf("hop %d failed; the origin sees hop %d: %v", failing, hop, err)
		}
		if d, err := f.Details(); err != nil || d.Expiry != uint32(failing) {
			t.Fatalf("details of hop %d: %+v, %v", failing, d, err)
		}
	}
}

func TestFailureOfNobody(t *testing.T) {
	_, secrets := build(t, route(t, 3, 10))
	sealed := onion.Failure{Code: onion.CodeMPPTimeout}.Seal(secrets[2])
	for name, reason := range map[string][]byte{
		"nothing":              nil,
		"garbage":              bytes.Repeat([]byte{7}, 292),
		"less than an HMAC":    make([]byte, 31),
		"too much":             make([]byte, onion.MaxReason+1),
		"a hop that forgot":    sealed,
		"a hop out of turn":    onion.Obscure(secrets[0], sealed),
		"the secret of nobody": onion.Obscure(secrets[0], onion.Obscure(secrets[1], onion.Obscure(secrets[2], onion.Failure{}.Seal([32]byte{})))),
	} {
		if hop, f, err := onion.Open(secrets, reason); err == nil || hop != -1 {
			t.Errorf("%s: hop %d, %v, %v; want an error of nobody", name, hop, f, err)
		}
	}
	right := onion.Obscure(secrets[0], onion.Obscure(secrets[1], sealed))
	if hop, _, err := onion.Open(secrets, right); hop != 2 || err != nil {
		t.Fatalf("hop %d, %v", hop, err)
	}
	for at := range right {
		right[at] ^= 0x80
		if hop, _, err := onion.Open(secrets, right); err == nil || hop != -1 {
			t.Fatalf("byte %d may be changed: hop %d", at, hop)
		}
		right[at] ^= 0x80
	}
}

func TestDetailsComeBack(t *testing.T) {
	update := append([]byte{0x01, 0x02}, bytes.Repeat([]byte{9}, 136)...)
	for _, test := range []struct {
		failure onion.Failure
		name    string
		want    onion.Details
	}{
		{onion.TemporaryChannelFailure(update), "temporary_channel_failure", onion.Details{Update: update}},
		{onion.AmountBelowMinimum(7, update), "amount_below_minimum", onion.Details{Amount: 7, Update: update}},
		{onion.FeeInsufficient(8, update), "fee_insufficient", onion.Details{Amount: 8, Update: update}},
		{onion.IncorrectCLTVExpiry(9, update), "incorrect_cltv_expiry", onion.Details{Expiry: 9, Update: update}},
		{onion.ExpiryTooSoon(update), "expiry_too_soon", onion.Details{Update: update}},
		{onion.ChannelDisabled(update), "channel_disabled", onion.Details{Update: update}},
		{onion.UnknownPaymentDetails(10, 11), "incorrect_or_unknown_payment_details", onion.Details{Amount: 10, Height: 11}},
		{onion.FinalIncorrectCLTVExpiry(12), "final_incorrect_cltv_expiry", onion.Details{Expiry: 12}},
		{onion.FinalIncorrectHTLCAmount(13), "final_incorrect_htlc_amount", onion.Details{Amount: 13}},
		{onion.InvalidOnionPayload(math.MaxUint64, 14), "invalid_onion_payload", onion.Details{Type: math.MaxUint64, Offset: 14}},
		{onion.Failure{Code: onion.CodeMPPTimeout}, "mpp_timeout", onion.Details{}},
		{onion.Failure{Code: onion.CodeInvalidOnionHMAC, Data: hash[:]}, "invalid_onion_hmac", onion.Details{Onion: hash}},
	} {
		if test.failure.Error() != test.name {
			t.Errorf("%s calls itself %s", test.name, test.failure)
		}
		more := onion.Failure{Code: test.failure.Code, Data: append(test.failure.Data, 1, 0)} // a TLV record that nobody knows
		got, err := more.Details()
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: details are %+v, %v; want %+v", test.name, got, err, test.want)
		}
		for size := len(test.failure.Data) - 1; size > 0; size-- {
			cut := onion.Failure{Code: test.failure.Code, Data: test.failure.Data[:size]}
			if _, err := cut.Details(); err == nil {
				t.Errorf("%s of %d bytes is whole", test.name, size)
			}
		}
	}
	if _, err := onion.FeeInsufficient(money.MaxAmount+1, nil).Details(); err == nil {
		t.Error("more bitcoin than there are")
	}
}

func FuzzOpen(f *testing.F) {
	_, secrets := build(f, route(f, 3, 10))
	f.Add(onion.UnknownPaymentDetails(1, 2).Seal(secrets[0]), uint8(0))
	f.Add(make([]byte, 31), uint8(1))
	f.Fuzz(func(t *testing.T, b []byte, hop uint8) {
		if at, failure, err := onion.Open(secrets, b); err == nil && at < 0 {
			t.Fatalf("%v of nobody", failure)
		}
		// What a hop really seals comes back, whatever it is.
		if len(b) < 2 || len(b) > 4096 {
			return
		}
		sent := onion.Failure{Code: onion.Code(b[0])<<8 | onion.Code(b[1]), Data: b[2:]}
		failing := int(hop) % len(secrets)
		reason := sent.Seal(secrets[failing])
		for i := failing - 1; i >= 0; i-- {
			reason = onion.Obscure(secrets[i], reason)
		}
		at, got, err := onion.Open(secrets, reason)
		if err != nil || at != failing || got.Code != sent.Code || !bytes.Equal(got.Data, sent.Data) {
			t.Fatalf("hop %d sent %v %x; opened as hop %d, %v %x, %v", failing, sent, sent.Data, at, got, got.Data, err)
		}
		got.Details()
	})
}
