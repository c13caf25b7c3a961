package keys_test

import (
	"strings"
	"testing"

	"coinop.dev/core/keys"
)

// A signature tells who made it, and any change tells of somebody else or of
// nobody.
func TestTheSignerFollowsFromTheSignature(t *testing.T) {
	for i := range byte(32) {
		s := secret(t, strings.Repeat("11", 32)).Derive(string(i))
		d := keys.Digest("test", []byte{i})
		sig, recovery := s.SignRecoverable(d)
		if sig != s.Sign(d) {
			t.Fatal("a recoverable signature is another signature")
		}
		if p, err := keys.Recover(d, sig, recovery); err != nil || p != s.Public() {
			t.Errorf("recovered %v, %v; want %v", p, err, s.Public())
		}
		if p, err := keys.Recover(d, sig, recovery^1); err == nil && p == s.Public() {
			t.Error("the recovery byte does not matter")
		}
		if p, err := keys.Recover(keys.Digest("other"), sig, recovery); err == nil && p == s.Public() {
			t.Error("the digest does not matter")
		}
	}
	for name, sig := range map[string]keys.Signature{"zero": {}, "r and s too large": keys.Signature([]byte(strings.Repeat("\xff", 64)))} {
		if p, err := keys.Recover([32]byte{1}, sig, 0); err == nil {
			t.Errorf("%s: recovered %v", name, p)
		}
	}
	if _, err := keys.Recover([32]byte{1}, keys.Signature{1}, 4); err == nil {
		t.Error("recovery byte 4 accepted")
	}
}
