package c_test

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Valgrind is told that the key is undefined, and so finds every branch and every
// address that depends on it or on what comes from it (the way of Langley's
// ctgrind, 2010). Two may: whether 32 bytes are a key or a nonce, which they are
// not once in 2^128 times, and whether a signature that is about to be published
// came out.
func TestSigningDependsOnNoSecret(t *testing.T) {
	t.Parallel()
	valgrind, err := exec.LookPath("valgrind")
	if err != nil {
		t.Skip("no valgrind here: constant time is not checked (apt-get install valgrind)")
	}
	if found, _ := filepath.Glob("/usr/include/valgrind/memcheck.h"); found == nil {
		t.Skip("no valgrind/memcheck.h here: constant time is not checked")
	}
	path := build(t, "secret", []string{"-O2", "-g", "-fno-inline", "-Wno-pedantic", "-Wno-conversion"}, "test/secret.c")
	out, err := exec.Command(valgrind, "--error-exitcode=0", "--track-origins=no", path).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "signed") {
		t.Fatalf("valgrind: %v\n%s", err, out)
	}
	where := regexp.MustCompile(`(?:depends on|Use of) uninit[^\n]*\n[^\n]*at 0x[0-9A-F]+: (\w+)`)
	found := where.FindAllStringSubmatch(string(out), -1)
	for _, f := range found {
		switch f[1] {
		case "key_valid", "key_derive", "sign_once", "ecdsa_sign": // these ask the two
		default:
			t.Errorf("%s depends on a secret", f[1])
		}
	}
	if len(found) == 0 {
		t.Error("valgrind found nothing, not even what it should")
	}
}
