package keys_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"coinop.dev/core/keys"
)

func secret(t *testing.T, text string) keys.Secret {
	t.Helper()
	b, _ := hex.DecodeString(text)
	s, err := keys.SecretFromBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A first draft printed a private key in a failing test.
func TestSecretsDoNotPrint(t *testing.T) {
	text := "4242424242424242424242424242424242424242424242424242424242424242"
	s := secret(t, text)
	hidden := struct {
		k keys.Secret
		s keys.Stamp
	}{s, s.Stamp("x")}
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%X", "%s", "%d", "%q"} {
		for _, v := range []any{s, &s, hidden, &hidden, []any{s}} {
			out := strings.ToLower(fmt.Sprintf(verb, v))
			if strings.Contains(out, "4242") || strings.Contains(out, "66, 66") || strings.Contains(out, "66 66") || strings.Contains(out, "bbbb") {
				t.Errorf("%s of %T prints %s", verb, v, out)
			}
		}
	}
	if _, err := json.Marshal(s); err == nil {
		t.Error("a secret marshals")
	}
}

// The private and public keys of the test wallet of BIP 340's vector 0 family:
// secret 3 has the well-known point.
func TestPublicOfKnownSecret(t *testing.T) {
	s := secret(t, strings.Repeat("00", 31)+"03")
	if got, want := s.Public().String(), "02f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9"; got != want {
		t.Errorf("public key of 3 is %s, want %s", got, want)
	}
}

func TestSignVerify(t *testing.T) {
	s, _ := keys.NewSecret(rand.Reader)
	d := keys.Digest("test", []byte("one"))
	sig := s.Sign(d)
	if !s.Public().Verify(d, sig) {
		t.Error("own signature refused")
	}
	for i := range sig {
		bad := sig
		bad[i] ^= 1
		if s.Public().Verify(d, bad) {
			t.Errorf("signature with byte %d flipped is accepted", i)
		}
	}
	if s.Public().Verify(keys.Digest("other", []byte("one")), sig) {
		t.Error("signature under another tag is accepted")
	}
	if again := s.Sign(d); again != sig {
		t.Error("signing is not deterministic")
	}
	st := s.Stamp("x")
	msg := []byte("taken")
	if !st.Public().Verify(msg, st.Sign(msg)) || st.Public().Verify([]byte("token"), st.Sign(msg)) {
		t.Error("stamp does not verify what it signed, or verifies what it did not")
	}
}

func TestDerive(t *testing.T) {
	s := secret(t, strings.Repeat("11", 32))
	if bytes.Equal(s.Derive("a").Reveal(), s.Derive("b").Reveal()) {
		t.Error("two purposes give one secret")
	}
	if !bytes.Equal(s.Derive("a").Reveal(), s.Derive("a").Reveal()) {
		t.Error("deriving is not deterministic")
	}
}

func TestBadKeysAreRefused(t *testing.T) {
	for _, text := range []string{"", "00", strings.Repeat("00", 32), strings.Repeat("ff", 32)} {
		b, _ := hex.DecodeString(text)
		if _, err := keys.SecretFromBytes(b); err == nil {
			t.Errorf("secret %q accepted", text)
		}
	}
	for _, text := range []string{"", "zz", "02", "05" + strings.Repeat("11", 32), "02" + strings.Repeat("ff", 32)} {
		if _, err := keys.ParsePublicHex(text); err == nil {
			t.Errorf("public key %q accepted", text)
		}
	}
}
