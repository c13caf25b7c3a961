package consent

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
)

// The vectors of BIP 174, 370 and 371: what is valid is read and written byte
// for byte, what is not is refused, and version 2 by name.
func TestPSBTVectors(t *testing.T) {
	count := map[string]int{}
	for _, v := range vectors(t) {
		count[v.verdict]++
		p, err := parse(v.raw)
		why := (*Refusal)(nil)
		errors.As(err, &why)
		switch v.verdict {
		case "valid":
			if err != nil {
				t.Errorf("%s: %v", v.name, err)
				continue
			}
			var b bytes.Buffer
			if err := p.Serialize(&b); err != nil || !bytes.Equal(b.Bytes(), v.raw) {
				t.Errorf("%s: %v, written as\n%x, read as\n%x", v.name, err, b.Bytes(), v.raw)
			}
		case "invalid":
			if why == nil || why.Reason != ReasonMalformed {
				t.Errorf("%s: %v", v.name, err)
			}
		case "version":
			if why == nil || why.Reason != ReasonVersion {
				t.Errorf("%s: %v", v.name, err)
			}
		case "field": // of version 2 in version 0: read, but not signed
			if err == nil {
				err = fields(p)
			}
			if !errors.As(err, &why) || why.Reason != ReasonField {
				t.Errorf("%s: %v", v.name, err)
			}
		}
	}
	if count["valid"] < 19 || count["invalid"] < 29 || count["version"] != 3 || count["field"] != 1 {
		t.Errorf("the file has %v", count)
	}
}

type vector struct {
	verdict, name string
	raw           []byte
}

func vectors(t testing.TB) (all []vector) {
	raw, err := os.ReadFile("testdata/psbt.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if strings.HasPrefix(line, "#") {
			continue
		}
		b, err := hex.DecodeString(f[2])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, vector{f[0], f[1], b})
	}
	return all
}

// What is read is written as a PSBT that is read alike.
func FuzzPSBT(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := parse(raw)
		if err != nil {
			return
		}
		_ = fields(p)
		var b, again bytes.Buffer
		if err := p.Serialize(&b); err != nil {
			t.Fatal(err)
		}
		q, err := parse(b.Bytes())
		if err != nil {
			t.Fatalf("%x is written as %x, which is not read: %v", raw, b.Bytes(), err)
		}
		if err := q.Serialize(&again); err != nil || !bytes.Equal(again.Bytes(), b.Bytes()) {
			t.Errorf("%x is written as %x, then as %x, %v", raw, b.Bytes(), again.Bytes(), err)
		}
	})
}

// Counts and lengths that no bytes back cost nothing.
func TestHugeClaimsAreNotAllocated(t *testing.T) {
	huge := "fe00e1f505" // a hundred million
	for name, text := range map[string]string{
		"key length":             "70736274ff" + huge,
		"value length":           "70736274ff0100" + huge,
		"inputs":                 "70736274ff01000a02000000" + huge + "00",
		"outputs":                "70736274ff01000b0200000000" + huge + "00",
		"witness of an input":    "70736274ff01003302000000010000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000100" + "36" + "0200000000010100000000000000000000000000000000000000000000000000000000000000000000000000000000000000" + huge,
		"previous transaction's": "70736274ff0100330200000001000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000" + "0100" + "0a02000000" + huge + "00",
	} {
		raw, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(name, err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err = parse(raw)
		runtime.ReadMemStats(&after)
		if spent := after.TotalAlloc - before.TotalAlloc; err == nil || spent > 1<<16 {
			t.Errorf("%s: %v, after %d bytes were allocated", name, err, spent)
		}
	}
}
