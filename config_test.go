package coinop

import (
	"os"
	"testing"
)

// No file makes the parser panic, and what it takes it can check.
func FuzzConfig(f *testing.F) {
	for _, text := range []string{
		"version = 1\ndata = \"d\"\n", "version = 1\ndata = \"d\"\nrails = [\"oneway:\"]\n[limits]\norder = \"10 sat\"\nperiod = \"daily\"\n",
		"[[sell]]\nitem = \"x\"\nprice = \"1 msat\"\nfrom = \"sensor\"\n", "version = \"1\"", "[limits", "x = {", "limits = 3", "\xff\xfe",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := ParseConfig(raw)
		if err != nil {
			return
		}
		if c.Check() == nil {
			c.SpendLimits()
			c.Services()
			c.StoreURI()
		}
	})
}

// A key that cannot be read is not replaced by a new one: that would be money
// lost.
func TestBadKeyFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/key", []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (&Config{Data: dir}).LoadKey(); err == nil {
		t.Error("a short key is accepted")
	}
	if raw, _ := os.ReadFile(dir + "/key"); string(raw) != "short" {
		t.Error("the key file was written over")
	}
	dir = t.TempDir()
	first, err := (&Config{Data: dir}).LoadKey()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := (&Config{Data: dir}).LoadKey(); err != nil || again.Public() != first.Public() {
		t.Errorf("the key changed: %v", err)
	}
	if info, _ := os.Stat(dir + "/key"); info.Mode().Perm() != 0o600 {
		t.Errorf("the key file has mode %v", info.Mode())
	}
}
