package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coinop.dev"
)

const written = `# My pump. Do not touch on Sundays.
version = 1   # of the layout
data = "d"
# chain = "p2p://127.0.0.1:8333"
rails = [
  "oneway:",  # to the neighbours
  "lightning:?alias=a]b#c",
]

[limits]   # what it may spend
order = '10 sat' # enough for a coffee
total = "500 sat"

[[sell]]
item = "water" # from the well
unit = "litre"
price = "5 sat"
from = "device:tap-1"

[[sell]]
item = "sauna"
unit = "minute"
# price = "1 sat"
from = "device:sauna"
shadow = true
free = 100

[mqtt]
listen = "127.0.0.1:1883"
`

// What somebody wrote stays as they wrote it, but for the one value.
func TestSetKeepsTheRest(t *testing.T) {
	for _, c := range []struct{ key, value, before, after string }{
		{"limits.order", "12 sat", `'10 sat' # enough`, `"12 sat" # enough`},
		{"data", `C:\coinop`, `data = "d"`, `data = "C:\\coinop"`},
		{"rails", "payword:", "[\n  \"oneway:\",  # to the neighbours\n  \"lightning:?alias=a]b#c\",\n]", `["payword:"]`},
		{"sell[water].price", "0.02 EUR", `"5 sat"`, `"0.02 EUR"`},
		{"sell[1].shadow", "false", "shadow = true", "shadow = false"},
		{"sell[sauna].free", "7", "free = 100", "free = 7"},
		// What is not there comes where it is expected: behind its example, or at the
		// end of its table.
		{"chain", "regtest:", ":8333\"\n", ":8333\"\nchain = \"regtest:\"\n"},
		{"sell[sauna].price", "2 sat", "# price = \"1 sat\"\n", "# price = \"1 sat\"\nprice = \"2 sat\"\n"},
		{"sell[water].min", "2", "from = \"device:tap-1\"\n", "from = \"device:tap-1\"\nmin = 2\n"},
		{"limits.payee", "9 sat", "total = \"500 sat\"\n", "total = \"500 sat\"\npayee = \"9 sat\"\n"},
		{"name", "pump", "]\n\n[limits]", "]\nname = \"pump\"\n\n[limits]"},
		{"mqtt.tls", "true", ":1883\"\n", ":1883\"\ntls = true\n"},
		{"coap.dtls", "0.0.0.0:5684", ":1883\"\n", ":1883\"\n\n[coap]\ndtls = \"0.0.0.0:5684\"\n"},
	} {
		k, err := coinop.FindKey(c.key)
		if err != nil {
			t.Fatal(err)
		}
		text, err := literal(k, c.value)
		if err != nil {
			t.Fatal(err)
		}
		for _, newline := range []string{"\n", "\r\n"} {
			file, want := strings.ReplaceAll(written, "\n", newline), strings.ReplaceAll(strings.Replace(written, c.before, c.after, 1), "\n", newline)
			got, err := editConfig([]byte(file), c.key, text)
			if err != nil {
				t.Errorf("%s: %v", c.key, err)
			} else if string(got) != want {
				t.Errorf("%s: the file is\n%s", c.key, got)
			}
		}
	}
}

// What cannot be changed with a clear result is not changed.
func TestSetRefuses(t *testing.T) {
	for _, c := range []struct{ file, key, value, want string }{
		{written, "sell[beer].price", `"5 sat"`, `no [[sell]] whose item is "beer"; there is water, sauna`},
		{written, "webhook[0].url", `"http://x"`, "the file has no [[webhook]]"},
		{written, "rails", `["a"`, ""},
		{written, "rails", "[\"a\"]\ndata = \"elsewhere\"", ""},
		{written, "limits.order", `"10"`, "has no unit"},
		{"version = 1\ndata = \"d\"\nlimits = { order = \"1 sat\" }\n", "limits.total", `"2 sat"`, ""},
	} {
		if got, err := editConfig([]byte(c.file), c.key, c.value); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s = %s: %v\n%s", c.key, c.value, err, got)
		}
	}
}

// A config that somebody else changes meanwhile is not written over, and who may
// read it is who could before.
func TestReplaceConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.toml")
	if err := os.WriteFile(path, []byte("old"), 0o640); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link.toml")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := replaceConfig(link, []byte("older"), []byte("new")); err == nil {
		t.Error("another one's change is lost")
	}
	backup, err := replaceConfig(link, []byte("old"), []byte("new"))
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string]string{path: "new", backup: "old"} {
		raw, _ := os.ReadFile(at)
		info, err := os.Stat(at)
		if err != nil || string(raw) != want || info.Mode().Perm() != 0o640 {
			t.Errorf("%s is %q, %v, %v", at, raw, info, err)
		}
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v", err)
	}
}

// No file makes the editor panic, or change what it was not asked to.
func FuzzEditConfig(f *testing.F) {
	f.Add(written, "limits.order", `"1 sat"`)
	f.Add("version = 1\ndata = \"\"\"a\nb\"\"\"\n", "data", `"x"`)
	f.Add("[limits]\norder = \"1 sat\"\nversion.x = 3", "sell[0].free", "7")
	f.Fuzz(func(t *testing.T, file, key, value string) {
		got, err := editConfig([]byte(file), key, value)
		if err != nil {
			return
		}
		if _, err := coinop.ParseConfig(got); err != nil && !bytes.Equal(got, []byte(file)) {
			t.Errorf("%v\n%s", err, got)
		}
	})
}
