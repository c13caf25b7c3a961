package noise_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"coinop.dev/core/keys"
	"coinop.dev/core/lightning/noise"
)

// The values in this file are BOLT 8, "Appendix A: Transport Test Vectors"
// (github.com/lightning/bolts, 08-transport.md, commit
// 0952b223696107ae5483ff3a5fecc79104ec9b42), unmodified but for the "0x".
const (
	initiatorStatic    = "1111111111111111111111111111111111111111111111111111111111111111"
	initiatorPublic    = "034f355bdcb7cc0af728ef3cceb9615d90684bb5b2ca5f859ab0f0b704075871aa"
	initiatorEphemeral = "1212121212121212121212121212121212121212121212121212121212121212"
	responderStatic    = "2121212121212121212121212121212121212121212121212121212121212121"
	responderPublic    = "028d7500dd4c12685d1f568b4c2b5048e8534b873319f3a8daa612b469132ec7f7"
	responderEphemeral = "2222222222222222222222222222222222222222222222222222222222222222"

	actOne   = "00036360e856310ce5d294e8be33fc807077dc56ac80d95d9cd4ddbd21325eff73f70df6086551151f58b8afe6c195782c6a"
	actTwo   = "0002466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f276e2470b93aac583c9ef6eafca3f730ae"
	actThree = "00b9e3a702e93e3a9948c2ed6e5fd7590a6e1c3a0344cfc9d5b57357049aa22355361aa02e55a8fc28fef5bd6d71ad0c38228dc68b1c466263b47fdf31e560e139ba"
)

// A failure is one act that must be refused: what the vectors call it, and
// what we say.
type failure struct{ name, input, output, says string }

var actTwoFailures = []failure{
	{
		"transport-initiator act2 short read test",
		"0002466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f276e2470b93aac583c9ef6eafca3f730",
		"ERROR (ACT2_READ_FAILED)", "act two: 49 bytes; it must be 50",
	}, {
		"transport-initiator act2 bad version test",
		"0102466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f276e2470b93aac583c9ef6eafca3f730ae",
		"ERROR (ACT2_BAD_VERSION 1)", "act two: version 1; only 0 is known",
	}, {
		"transport-initiator act2 bad key serialization test",
		"0004466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f276e2470b93aac583c9ef6eafca3f730ae",
		"ERROR (ACT2_BAD_PUBKEY)", "act two: ephemeral key: public key 04466d7f",
	}, {
		"transport-initiator act2 bad MAC test",
		"0002466d7fcae563e5cb09a0d1870bb580344804617879a14949cf22285f1bae3f276e2470b93aac583c9ef6eafca3f730af",
		"ERROR (ACT2_BAD_TAG)", "act two: tag does not match",
	},
}

var actOneFailures = []failure{
	{
		"transport-responder act1 short read test",
		"00036360e856310ce5d294e8be33fc807077dc56ac80d95d9cd4ddbd21325eff73f70df6086551151f58b8afe6c195782c",
		"ERROR (ACT1_READ_FAILED)", "act one: 49 bytes; it must be 50",
	}, {
		"transport-responder act1 bad version test",
		"01036360e856310ce5d294e8be33fc807077dc56ac80d95d9cd4ddbd21325eff73f70df6086551151f58b8afe6c195782c6a",
		"ERROR (ACT1_BAD_VERSION)", "act one: version 1; only 0 is known",
	}, {
		"transport-responder act1 bad key serialization test",
		"00046360e856310ce5d294e8be33fc807077dc56ac80d95d9cd4ddbd21325eff73f70df6086551151f58b8afe6c195782c6a",
		"ERROR (ACT1_BAD_PUBKEY)", "act one: ephemeral key: public key 046360e8",
	}, {
		"transport-responder act1 bad MAC test",
		"00036360e856310ce5d294e8be33fc807077dc56ac80d95d9cd4ddbd21325eff73f70df6086551151f58b8afe6c195782c6b",
		"ERROR (ACT1_BAD_TAG)", "act one: tag does not match",
	},
}

var actThreeFailures = []failure{
	{
		"transport-responder act3 bad version test",
		"01b9e3a702e93e3a9948c2ed6e5fd7590a6e1c3a0344cfc9d5b57357049aa22355361aa02e55a8fc28fef5bd6d71ad0c38228dc68b1c466263b47fdf31e560e139ba",
		"ERROR (ACT3_BAD_VERSION 1)", "act three: version 1; only 0 is known",
	}, {
		"transport-responder act3 short read test",
		"00b9e3a702e93e3a9948c2ed6e5fd7590a6e1c3a0344cfc9d5b57357049aa22355361aa02e55a8fc28fef5bd6d71ad0c38228dc68b1c466263b47fdf31e560e139",
		"ERROR (ACT3_READ_FAILED)", "act three: 65 bytes; it must be 66",
	}, {
		"transport-responder act3 bad MAC for ciphertext test",
		"00c9e3a702e93e3a9948c2ed6e5fd7590a6e1c3a0344cfc9d5b57357049aa22355361aa02e55a8fc28fef5bd6d71ad0c38228dc68b1c466263b47fdf31e560e139ba",
		"ERROR (ACT3_BAD_CIPHERTEXT)", "act three: static key: tag does not match",
	}, {
		"transport-responder act3 bad rs test",
		"00bfe3a702e93e3a9948c2ed6e5fd7590a6e1c3a0344cfc9d5b57357049aa2235536ad09a8ee351870c2bb7f78b754a26c6cef79a98d25139c856d7efd252c2ae73c",
		// The vector's remark has rs begin with 04; these bytes decrypt to 05,
		// which is no more of a point.
		"ERROR (ACT3_BAD_PUBKEY)", "act three: static key: public key 054f355b",
	}, {
		"transport-responder act3 bad MAC test",
		"00b9e3a702e93e3a9948c2ed6e5fd7590a6e1c3a0344cfc9d5b57357049aa22355361aa02e55a8fc28fef5bd6d71ad0c38228dc68b1c466263b47fdf31e560e139bb",
		"ERROR (ACT3_BAD_TAG)", "act three: tag does not match",
	},
}

// messages are the outputs of "transport-message test": the initiator sends
// "hello" 1,002 times.
var messages = map[int]string{
	0:    "cf2b30ddf0cf3f80e7c35a6e6730b59fe802473180f396d88a8fb0db8cbcf25d2f214cf9ea1d95",
	1:    "72887022101f0b6753e0c7de21657d35a4cb2a1f5cde2650528bbc8f837d0f0d7ad833b1a256a1",
	500:  "178cb9d7387190fa34db9c2d50027d21793c9bc2d40b1e14dcf30ebeeeb220f48364f7a4c68bf8",
	501:  "1b186c57d44eb6de4c057c49940d79bb838a145cb528d6e8fd26dbe50a60ca2c104b56b60e45bd",
	1000: "4a2f3cc3b5e78ddb83dcb426d9863d9d9a723b0337c89dd0b005d89f8d3c05c52b76b29b740f09",
	1001: "2ecd8c8a5629d0d02ab457a0fdd0f7b90a192cd46be5ecb6ca570bfc5e268338b1a16cf4ef2d36",
}

func TestInitiatorVectors(t *testing.T) {
	i, one := initiate(t)
	if hex.EncodeToString(one[:]) != actOne {
		t.Errorf("act one is %x", one)
	}
	session, three, err := i.Finish(unhex(t, actTwo))
	if err != nil || hex.EncodeToString(three[:]) != actThree {
		t.Errorf("act three is %x, %v", three, err)
	}
	if session.Peer.String() != responderPublic {
		t.Errorf("peer is %s", session.Peer)
	}
	refuse(t, actTwoFailures, func(act []byte) error {
		_, _, err := i.Finish(act)
		return err
	})
}

func TestResponderVectors(t *testing.T) {
	r, two := respond(t)
	if hex.EncodeToString(two[:]) != actTwo {
		t.Errorf("act two is %x", two)
	}
	session, err := r.Finish(unhex(t, actThree))
	if err != nil || session.Peer.String() != initiatorPublic {
		t.Errorf("peer is %s, %v", session.Peer, err)
	}
	refuse(t, actOneFailures, func(act []byte) error {
		_, _, err := noise.Respond(secret(t, responderStatic), secret(t, responderEphemeral), act)
		return err
	})
	refuse(t, actThreeFailures, func(act []byte) error {
		_, err := r.Finish(act)
		return err
	})
}

// The session keys of the handshake vectors are those of the message vectors,
// so the first packet checks sk, and a packet back checks rk.
func TestMessageVectors(t *testing.T) {
	initiator, responder := sessions(t)
	for _, way := range []struct{ from, to noise.Session }{{initiator, responder}, {responder, initiator}} {
		var packet, body []byte
		for n := range 1002 {
			var err error
			if packet, err = way.from.Seal(packet[:0], []byte("hello")); err != nil {
				t.Fatal(err)
			}
			want, listed := messages[n]
			if listed && way.from.Peer == initiator.Peer && hex.EncodeToString(packet) != want {
				t.Errorf("output %d is %x", n, packet)
			}
			length, err := way.to.Length(packet[:noise.HeaderSize])
			if err != nil || length != 5 {
				t.Fatalf("output %d: length %d, %v", n, length, err)
			}
			if body, err = way.to.Open(body[:0], packet[noise.HeaderSize:]); err != nil || string(body) != "hello" {
				t.Fatalf("output %d: %q, %v", n, body, err)
			}
		}
	}
}

func refuse(t *testing.T, failures []failure, read func(act []byte) error) {
	for _, f := range failures {
		err := read(unhex(t, f.input))
		if err == nil || !strings.HasPrefix(err.Error(), f.says) {
			t.Errorf("%s: want %s as %q, got %v", f.name, f.output, f.says, err)
		}
	}
}

func initiate(t testing.TB) (noise.Initiator, [noise.ActOneSize]byte) {
	peer, err := keys.ParsePublicHex(responderPublic)
	if err != nil {
		t.Fatal(err)
	}
	i, act, err := noise.Initiate(secret(t, initiatorStatic), peer, secret(t, initiatorEphemeral))
	if err != nil {
		t.Fatal(err)
	}
	return i, act
}

func respond(t testing.TB) (noise.Responder, [noise.ActTwoSize]byte) {
	r, act, err := noise.Respond(secret(t, responderStatic), secret(t, responderEphemeral), unhex(t, actOne))
	if err != nil {
		t.Fatal(err)
	}
	return r, act
}

func sessions(t testing.TB) (initiator, responder noise.Session) {
	i, _ := initiate(t)
	r, two := respond(t)
	initiator, three, err := i.Finish(two[:])
	if err != nil {
		t.Fatal(err)
	}
	responder, err = r.Finish(three[:])
	if err != nil {
		t.Fatal(err)
	}
	return initiator, responder
}

func secret(t testing.TB, text string) keys.Secret {
	s, err := keys.SecretFromBytes(unhex(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func unhex(t testing.TB, text string) []byte {
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
